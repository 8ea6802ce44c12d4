"""The recipe that makes the embedded model from nothing but a seed: `python -m models.recipe --help`.

    world -> corpus -> tokenizer -> network -> train -> export -> measure

It needs the `recipe` extra (torch, sentencepiece); nothing else in steercpp imports it.
"""
