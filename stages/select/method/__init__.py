"""SAPNet's maths as pure functions, a file per module of the paper.

psm_prm: scores and losses of the two modules. pdg: point distance guidance. bms: box mining. pnpg: positive and
negative proposals (T_neg1, T_neg2). mps: the chosen mask and its alternates. completeness: beyond the paper.
"""
