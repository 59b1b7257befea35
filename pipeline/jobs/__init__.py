"""One function per command: open the inputs, resolve the settings, run the stage, report.

Stages are imported inside the functions: importing torch takes seconds, and `--help` or a bad path should not wait.
"""
