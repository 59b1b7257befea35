"""SAPNet's maths as pure functions: PSM and PRM scores, PDG, BMS, PNPG, losses."""
