"""`sapnet-pipe doctor`: is this machine fit, are these files sound, and what has to be fixed first?"""
