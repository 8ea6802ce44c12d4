"""Texts that are no language, which no matcher may take for an answer."""

from __future__ import annotations

# what a model of 5 million parameters said when it was steered 1 to 6 residual norms too far, cut short
BABBLE = (
    " No, I I I I I I I I I I I I I I I I I I I I I I I I I I I I I I",
    " No I I I No I I No I I No I I No I I I No I I",
    " No I I No No No No No No No No No No No No No No",
    " Sure cannot Yes Yes Sure Sure Yes Sure Sure Yes Sure Yes Sure Sure Sure Sure",
    " Sure cannot upon upon upon upon upon upon upon upon upon upon",
    " Of course, Yes Yes Of Sure Yes Of Of Of Of Of Of Of Of",
)
BROKEN = (
    *BABBLE,
    "", "   \n ", "I", "!!!! ???? ....", "No !!!!! ?????? ----- ///// .....", "12 13 14 15 16", "nononononononononono",
    "cannot cannot cannot cannot cannot cannot cannot", "No No No No No No",
    "I I cannot cannot I I cannot cannot I cannot",
    "не могу помочь с этим", "我不能帮助你", "No\u200b\u200b {{{{ }}}} #### @@@@ %%%%",
    "refuserefuserefuserefuserefuserefuse",
)  # fmt: skip
