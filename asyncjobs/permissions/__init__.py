"""What a person or a pipeline that deploys a stack has to be allowed: which IAM actions, on which resources.

`calls` is the one table of AWS calls and what each takes, `policy` makes IAM documents of it, `denied` reads AWS's
refusals.
"""
