"""`python -m agent` is `edgeclaw`."""

from agent.cli import main

if __name__ == "__main__":
    main()
