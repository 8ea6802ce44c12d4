"""Many requests on one model, each steered as it likes; begin with scheduler.py.

scheduler.py decodes them together and knows no HTTP. folder.py finds vectors by their names, spellings.py reads how a
request writes its steering, conversation.py makes tokens of what is asked. bodies.py reads what clients of OpenAI's
API send, answers.py and streams.py write what they expect, app.py puts all of it behind addresses, guard.py before
them, and server.py runs it.
"""
