"""`python -m cli`: the command where its script isn't on the PATH."""

from cli.main import main

if __name__ == "__main__":
    main()
