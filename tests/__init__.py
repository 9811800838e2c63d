"""Facts the code must keep."""

import beartype

#: The type checker of the test run: annotations, shapes among them, are held against what is passed. As PEP 484 has it,
#: an int is good where a float is wanted.
checked = beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))
