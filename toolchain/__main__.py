"""``python -m toolchain`` is ``nnx``."""

from toolchain.cli import main

if __name__ == "__main__":
    main()
