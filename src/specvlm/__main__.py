"""`python -m specvlm` is the command `specvlm`."""

from specvlm.cli import main

if __name__ == "__main__":
    main()
