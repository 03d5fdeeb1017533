"""``python -m thyme``, which is how ``accelerate launch -m`` and ``torchrun -m`` start a command in each process."""

from thyme.cli import main
from thyme.train.distributed import leave

if __name__ == "__main__":
    try:
        main()
    except SystemExit as end:
        if not end.code:
            leave()  # not after a failure: the others may be waiting for what will never come
        raise
