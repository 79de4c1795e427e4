"""The program `mlops-assets`, what people and scripts call; `docs/cli.md` is its page.

program.py        the commands, their arguments and help
model_commands.py those of them about models in service
provenance.py     from an answer back to its data, and which version was champion at a moment
upkeep.py         retention; models that are served, and the way out of service and back to another version
labels.py         labels from a table
check.py          all models' YAMLs, every problem with file and line
check_classes.py  what `train` and `source.example` name, imported
doctor.py         whether this machine and what it talks to can be used
servers.py        MLflow, the model server and the exporter of this machine
draft.py          a YAML that fits a file
page.py           docs/cli.md
"""
