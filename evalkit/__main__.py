"""`python -m evalkit`: the command line without the installed script."""

from q2d2.registry import leave_out_working_directory

if __name__ == "__main__":
    leave_out_working_directory()  # before anything else is imported

    from evalkit.cli.main import main

    main()
