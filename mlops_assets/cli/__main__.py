"""`python -m mlops_assets.cli`: the program, where its script is not installed."""

from mlops_assets.cli.program import main

if __name__ == "__main__":
    main(prog_name="mlops-assets")
