"""Transports with one defect each, made from `memory`: they show that the kit's cases bite.

`base.py` makes a transport of a defect and names the cases that must fail. The defects stand by topic.
"""
