"""One module a command: it parses, calls one library function and shows what came back; main.py lists them."""
