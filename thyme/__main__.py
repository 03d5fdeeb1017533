"""``python -m thyme``, which is how ``accelerate launch -m`` and ``torchrun -m`` start a command in each process."""

from thyme.cli import main

if __name__ == "__main__":
    main()
