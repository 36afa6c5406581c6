"""The Python interface: what the commands do, for notebooks and scripts.

`imgcls.train`, `imgcls.load`, `imgcls.evaluate`, `imgcls.report`, `imgcls.audit` and
`imgcls.export` are the functions of the commands. Their results show themselves in notebooks.
"""
