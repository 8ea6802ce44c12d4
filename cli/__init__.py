"""The `steercpp` command line, shipped as steercpp.cli; one module per command, and only `output` knows Rich."""
