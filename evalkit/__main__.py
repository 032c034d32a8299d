"""`python -m evalkit`: the command line without the installed script."""

from evalkit.cli import main

if __name__ == "__main__":
    main()
