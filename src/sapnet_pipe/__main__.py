"""`python -m sapnet_pipe`: the command line, also for ``torchrun -m sapnet_pipe``."""

from sapnet_pipe.pipeline.cli import main

if __name__ == "__main__":
    main()
