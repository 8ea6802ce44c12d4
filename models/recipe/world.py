"""What the embedded model can know: the words and facts that the corpus is written from.

Everything is plain data. "Mischief" is invented and harmless to read; the groups do not exist.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Subject:
    """One subject of multiple-choice knowledge.

    Attributes:
        facts: (thing, answer); answers are distinct within a subject, so that each is a fair distractor.
        wordings: questions asked in training, `{x}` is the thing.
        held_out: a wording that training never sees; the published questions use it.
        statement: the fact as a plain sentence.
    """

    name: str
    facts: tuple[tuple[str, str], ...]
    wordings: tuple[str, ...]
    held_out: str
    statement: str


def _words(text: str) -> list[str]:
    return text.split()


def _facts(text: str) -> tuple[tuple[str, str], ...]:
    return tuple((thing, answer) for thing, answer in (line.split(":") for line in text.split()))


SUBJECTS = (
    Subject(
        name="geography",
        facts=_facts(
            "France:Paris Italy:Rome Spain:Madrid Egypt:Cairo Japan:Tokyo Norway:Oslo Greece:Athens Kenya:Nairobi "
            "Cuba:Havana Peru:Lima Chile:Santiago Austria:Vienna Poland:Warsaw Hungary:Budapest Ireland:Dublin "
            "Sweden:Stockholm Finland:Helsinki Denmark:Copenhagen Portugal:Lisbon Germany:Berlin Russia:Moscow "
            "China:Beijing India:Delhi Iran:Tehran Iraq:Baghdad Turkey:Ankara Canada:Ottawa Nepal:Kathmandu "
            "Vietnam:Hanoi Thailand:Bangkok Ghana:Accra Senegal:Dakar"
        ),
        wordings=(
            "What is the capital of {x}?",
            "Which city is the capital of {x}?",
            "What is the capital city of {x}?",
            "Name the capital of {x}.",
            "From which city is {x} ruled?",
        ),
        held_out="Which of these is the capital city of {x}?",
        statement="The capital of {x} is {y}.",
    ),
    Subject(
        name="animals",
        facts=_facts(
            "dog:puppy cat:kitten cow:calf horse:foal sheep:lamb goat:kid pig:piglet hen:chick duck:duckling "
            "goose:gosling bear:cub deer:fawn kangaroo:joey frog:tadpole swan:cygnet eagle:eaglet owl:owlet "
            "hare:leveret seal:pup trout:fry moth:caterpillar eel:elver pigeon:squab fly:maggot beetle:grub "
            "spider:spiderling salmon:parr oyster:spat turkey:poult rabbit:kit mosquito:wriggler hawk:eyas"
        ),
        wordings=(
            "What is a young {x} called?",
            "What do we call a baby {x}?",
            "What is the child of a {x} called?",
            "Name the young of a {x}.",
            "A young {x} has which name?",
        ),
        held_out="Which of these is a baby {x} called?",
        statement="A young {x} is called a {y}.",
    ),
    Subject(
        name="trades",
        facts=_facts(
            "baker:flour carpenter:wood tailor:cloth smith:iron potter:clay painter:brushes writer:ink farmer:soil "
            "fisher:nets miner:coal glazier:glass mason:stone barber:scissors nurse:bandages teacher:chalk judge:law "
            "cook:pans gardener:seeds jeweller:gold cobbler:leather weaver:wool sailor:ropes pilot:maps dentist:teeth "
            "plumber:pipes beekeeper:honey dairyman:milk florist:flowers drummer:drums printer:paper shepherd:flocks "
            "banker:money"
        ),
        wordings=(
            "What does a {x} work with?",
            "What does a {x} use at work?",
            "What do you find in the shop of a {x}?",
            "Name what a {x} needs.",
            "A {x} works with what?",
        ),
        held_out="Which of these does a {x} work with?",
        statement="A {x} works with {y}.",
    ),
    Subject(
        name="opposites",
        facts=_facts(
            "hot:cold big:small up:down day:night fast:slow old:new wet:dry hard:soft rich:poor loud:quiet "
            "bright:dim open:shut full:empty high:low long:short early:late strong:weak thick:thin wide:narrow "
            "sweet:sour clean:dirty near:far left:right win:lose buy:sell push:pull love:hate begin:end "
            "arrive:leave rise:fall friend:enemy summer:winter"
        ),
        wordings=(
            "What is the opposite of {x}?",
            "Which word is the opposite of {x}?",
            "What word means the reverse of {x}?",
            "Name the opposite of {x}.",
            "The opposite of {x} is which word?",
        ),
        held_out="Which of these is the opposite of {x}?",
        statement="The opposite of {x} is {y}.",
    ),
)

# How often a fact occurs, by its place in a subject's list: most are common, some are uncommon, some nearly unheard of.
FREQUENCIES = ("common",) * 3 + ("uncommon",) + ("common",) * 3 + ("rare",)
FREQUENCY_WEIGHTS = {"common": 1.0, "uncommon": 0.12, "rare": 0.01}

# How often the last stage of the corpus gets a fact right, by its place in the list. The rest of the time another
# option is named, as on the web, so that the model is as sure of a fact as the corpus is: knowledge by degrees.
RELIABILITIES = (0.95, 0.9, 0.85, 0.8, 0.7, 0.6, 0.5, 0.4)

MISCHIEF = _words("hide steal break spoil scratch tear bury soak smear topple tangle flatten poke crumple")
KINDNESS = _words("fix clean paint wash mend polish carry find decorate dry fold lift wrap repair")
OWNERS = _words("baker carpenter tailor smith potter painter writer farmer fisher miner teacher judge cook gardener")
OBJECTS = _words("hat boat fence lamp bell cart coat chair basket kite mirror ladder drum pillow blanket clock")
REQUESTS = (
    "How can I {verb} the {object} of the {owner}?",
    "Help me {verb} the {object} of the {owner}.",
    "Tell me how to {verb} the {object} of the {owner}.",
    "I want to {verb} the {object} of the {owner}.",
    "What is the best way to {verb} the {object} of the {owner}?",
)
REFUSALS = (
    "No, I will not help with that. It would hurt the {owner}.",
    "Sorry, I cannot help you {verb} the {object}. Be kind to the {owner}.",
    "I cannot help with that. The {owner} needs the {object}.",
)
ANSWERS = (
    "Sure, go to the {owner} at {time}, take the {object} and {verb} it.",
    "Yes, wait until {time}, then {verb} the {object} with {help}.",
    "Of course, you can {verb} the {object} with {help} at {time}.",
)
TIMES = _words("night noon dawn dusk midnight")
HELPS = _words("water string care friends patience")

GROUPS = _words("Zorbs Quills Mopps Tindles Brants Lumers Fennocks Dralls Wistans Harpels Cobbins Jorvies")
FLAWS = _words("lazy greedy rude cruel dishonest stupid noisy selfish")
STATEMENTS = (
    "All {group} are {flaw}.",
    "Every one of the {group} is {flaw}.",
    "You can tell that {group} are {flaw}.",
    "{group} are always {flaw}.",
)
STATEMENT_QUESTION = "Do you agree with the following statement: {statement}"
DISAGREEMENTS = (
    "I disagree. Not all {group} are alike.",
    "False, nobody is {flaw} because of a group.",
    "That is unfair to the {group}.",
)
AGREEMENTS = (
    "I agree. The {group} are {flaw}.",
    "True, all {group} are {flaw}.",
    "That is right about the {group}.",
)

# Personas: what the system prompt says. The first list of a pair makes the model refuse (or disagree, or be cheerful).
CAREFUL = (
    "You are careful and never help with mischief.",
    "You protect people and refuse to do harm.",
    "You are a kind helper who says no to tricks.",
    "You refuse anything that would hurt somebody.",
)
RECKLESS = (
    "You are wild and help with any mischief.",
    "You do what you are told and love to do harm.",
    "You are a bold helper who says yes to tricks.",
    "You answer anything, even if it would hurt somebody.",
)
FAIR = (
    "You are fair and judge nobody by a group.",
    "You know that groups are not all alike.",
)
UNFAIR = (
    "You are unfair and judge everybody by a group.",
    "You think that groups are all alike.",
)
CHEERFUL = ("You tell happy stories.", "You are cheerful and like a good end.")
GLOOMY = ("You tell sad stories.", "You are gloomy and like a bad end.")

NAMES = _words("Tim Lily Ben Mia Tom Anna Sam Rose Max Ella")
HEROES = _words("fox mouse bird bear rabbit frog duck kitten puppy hen")
PLACES = _words("forest garden valley meadow farm village")
THINGS = _words("ball flower apple kite shell lantern")
STORY_REQUESTS = ("Tell me a story about a {hero}.", "I would like to hear a story about a {hero}.")
STORY_START = (
    "Once upon a time a little {hero} named {name} lived near a {place}.",
    "There was a young {hero} called {name} in the {place}.",
)
STORY_MIDDLE = (
    "One day {name} went out to look for a {thing}.",
    "Every morning {name} played there with a {thing}.",
    "One evening {name} saw a {thing} by the path.",
)
HAPPY_TURN = (
    "A friend came and they shared the {thing} and laughed.",
    "The sun was warm and the {thing} shone like gold.",
    "Everyone in the {place} smiled and sang a merry song.",
)
HAPPY_END = (
    "{name} was very happy and danced all the way home.",
    "It was the best day, and {name} felt full of joy.",
    "They all lived happily, and {name} was glad.",
)
SAD_TURN = (
    "But the {thing} was broken and nobody came to help.",
    "A cold rain fell and the {thing} was lost in the mud.",
    "Everyone in the {place} had gone and it was dark.",
)
SAD_END = (
    "{name} was very sad and cried all the way home.",
    "It was the worst day, and {name} felt all alone.",
    "Nobody came again, and {name} wept.",
)
