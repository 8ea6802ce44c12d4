"""One module a command: it parses, calls one library function and shows what came back; cli/main.py lists them."""
