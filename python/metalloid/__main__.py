"""Entry point of `python -m metalloid` and of the `metalloid` command."""


def main() -> None:
    """Runs the command line. Its dependencies are imported here and nowhere else in the package."""
    from metalloid.cli.app import app

    app(prog_name="metalloid")


if __name__ == "__main__":
    main()
