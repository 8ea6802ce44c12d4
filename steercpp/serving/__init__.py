"""Many requests on one model, each steered as it likes; begin with scheduler.py, which knows no HTTP.

folder.py finds vectors by their names, spellings.py reads how a request writes its steering, conversation.py makes
tokens of prompts, order.py all that of a request. bodies.py and answers.py are OpenAI's bodies; openai.py, streams.py,
llama.py and vectors.py answer at addresses, app.py puts them together, guard.py stands before them, server.py runs it.
"""
