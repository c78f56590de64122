"""The commands of the zoo: each parses, calls one function, and prints."""

from __future__ import annotations

import sys
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from prunepolicy.entrypoint import console_for, error_console, present
from prunepolicy.help_panels import HelpCommand, help_without_command
from prunepolicy.options import AsJson
from prunepolicy.pruning.errors import UsageError

if TYPE_CHECKING:
    from prunepolicy.commands.zoo.view import Pushed
    from prunepolicy.policy.zoo.push import Parcel

zoo_app = typer.Typer(
    name="zoo",
    help="Download, verify and share policies; every index is signed, every file is hashed.",
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)


@zoo_app.callback(invoke_without_command=True)
def _zoo(context: typer.Context) -> None:
    help_without_command(context)


SourceOption = Annotated[
    str | None,
    typer.Option(
        "--source",
        help="package, a folder, http(s)://HOST/PATH or hf://USER/REPO@REVISION.",
        show_default="PRUNEPOLICY_ZOO, then [zoo] source of config.toml, then package",
    ),
]
Id = Annotated[
    str,
    typer.Argument(metavar="ID", help="NAME.vN or NAME.TAG-vN, or a part that fits one.", show_default=False),
]
OptionalId = Annotated[
    str | None, typer.Argument(metavar="ID", help="NAME.vN or NAME.TAG-vN.", show_default="all policies")
]
SigningKeys = Annotated[
    list[Path] | None,
    typer.Option(
        "--key",
        help="Private key in PEM; repeatable, one signature each.",
        envvar="PRUNEPOLICY_ZOO_SIGNING_KEY",
    ),
]


@zoo_app.command("list", cls=HelpCommand)
def list_(source: SourceOption = None, as_json: AsJson = False) -> None:
    """List the policies in a zoo.

    [bold]Examples[/bold]

    prunepolicy zoo list

    prunepolicy zoo list --source https://example.org/zoo
    """
    from prunepolicy.commands.zoo.view import Listed
    from prunepolicy.policy.zoo.zoo_handle import Zoo

    present(Listed.of(Zoo.open(source)), as_json)


@zoo_app.command(cls=HelpCommand)
def show(name: Id, source: SourceOption = None, as_json: AsJson = False) -> None:
    """Show a policy's index entry and its card.

    [bold]Example[/bold]

    prunepolicy zoo show llama-graph
    """
    from prunepolicy.agents.learned_pruning.policy_card import parsed_card
    from prunepolicy.commands.zoo.view import Shown
    from prunepolicy.policy.zoo.pull import read_file
    from prunepolicy.policy.zoo.zoo_handle import Zoo

    zoo = Zoo.open(source)
    full_name = zoo.find(name)
    card = parsed_card(read_file(zoo, full_name, "card.json"), f"The card of {full_name}")
    present(Shown(zoo, full_name, card), as_json)


@zoo_app.command(cls=HelpCommand)
def pull(name: Id, source: SourceOption = None, as_json: AsJson = False) -> None:
    """Download and verify a policy; afterwards it works offline.

    [bold]Examples[/bold]

    prunepolicy zoo pull llama-graph.v1

    prunepolicy zoo pull llama-graph.v1 --source hf://someone/zoo@v3
    """
    from prunepolicy.policy.zoo.pull import pull
    from prunepolicy.policy.zoo.zoo_handle import Zoo

    zoo = Zoo.open(source)
    full_name = zoo.find(name)
    folder, size = pull(zoo, full_name), zoo.index.policies[full_name].size
    _tell(
        {"name": full_name, "source": zoo.source.spelling, "folder": str(folder), "bytes": size},
        f"{full_name}, {size:,} bytes, is at {folder}.",
        as_json,
    )


@zoo_app.command(cls=HelpCommand)
def verify(
    name: OptionalId = None,
    rescore: Annotated[
        bool, typer.Option("--rescore", help="Also reproduce the cheapest number of the card.")
    ] = False,
    source: SourceOption = None,
    as_json: AsJson = False,
) -> None:
    """Verify signature, sizes, hashes and schema; exit code 1 when anything is wrong.

    [bold]Examples[/bold]

    prunepolicy zoo verify

    prunepolicy zoo verify llama-graph.v1 --rescore
    """
    from prunepolicy.agents.learned_pruning.policy_card import parsed_card
    from prunepolicy.commands.zoo.rescore import rescore as measure
    from prunepolicy.commands.zoo.view import VerifiedPolicy
    from prunepolicy.policy.load import load_stored
    from prunepolicy.policy.zoo.pull import read_policy
    from prunepolicy.policy.zoo.verify import verify
    from prunepolicy.policy.zoo.zoo_handle import Zoo
    from prunepolicy.pruning.errors import UsageError
    from prunepolicy.pruning.io.progress import ProgressReporter

    if rescore and name is None:
        raise UsageError("--rescore measures one policy; name it.")
    zoo = Zoo.open(source)
    names = list(zoo.index.policies) if name is None else [zoo.find(name)]
    found, measured = verify(zoo, names), None
    if rescore and found[0].state != "bad":
        progress = ProgressReporter(error_console if as_json else console_for())
        stored = read_policy(zoo, names[0])
        card = parsed_card(stored.files["card.json"], f"The card of {names[0]}")
        measured = measure(load_stored(stored), card, progress)
    result = VerifiedPolicy(zoo.source.spelling, found, measured)
    present(result, as_json)
    if not result.good:
        raise typer.Exit(1)


@zoo_app.command(cls=HelpCommand)
def push(
    run: Annotated[
        Path, typer.Argument(metavar="RUN", help="A run folder or a policy folder.", show_default=False)
    ],
    to: Annotated[
        str, typer.Option("--to", help="Target zoo: a folder or hf://USER/REPO.", show_default=False)
    ],
    name: Annotated[
        str | None,
        typer.Option(
            "--as", help="Name in the zoo: NAME.vN or NAME.TAG-vN.", show_default="the policy's own name"
        ),
    ] = None,
    key: SigningKeys = None,
    version: Annotated[
        str | None, typer.Option("--version", help="Semantic version.", show_default="N.0.0")
    ] = None,
    licence: Annotated[
        str | None,
        typer.Option(
            "--licence",
            "--license",
            help="Licence of the policy, as an SPDX identifier.",
            show_default="asked on a terminal",
        ),
    ] = None,
    caveat: Annotated[str, typer.Option("--caveat", help="Warning at the top of the card.")] = "",
    witness: Annotated[
        str, typer.Option("--witness", help="Also score this model, so that others can reproduce the number.")
    ] = "",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be sent, and send nothing.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Add the best policy of a run to your zoo, and sign its index.

    [bold]Examples[/bold]

    prunepolicy zoo push runs/graph --to ./zoo --as my-graph.v1 --licence MIT --key zoo.pem

    prunepolicy zoo push runs/graph --to hf://me/zoo --as my-graph.v1 --licence MIT --dry-run
    """
    from prunepolicy.commands.zoo.ship import Addition, listing_of, packed
    from prunepolicy.commands.zoo.view import Pushed
    from prunepolicy.pruning.io.progress import ProgressReporter

    full_name, listing = listing_of(run, name, version, licence or _asked_licence())
    progress = ProgressReporter(error_console if as_json else console_for())
    addition = Addition(caveat, witness, progress)
    with packed(run, full_name, addition, listing, f"zoo:{full_name}") as parcel:
        present(Pushed(parcel, to, None) if dry_run else _sent(parcel, to, key), as_json)


def _asked_licence() -> str:
    """Ask for the licence on a terminal.

    Raises:
        UsageError: elsewhere, where nobody would answer.
    """
    usual = "Apache-2.0, MIT, BSD-3-Clause, CC-BY-4.0, CC0-1.0"
    if sys.stdin is not None and sys.stdin.isatty():
        return str(typer.prompt(f"Licence of the policy, as an SPDX identifier ({usual}, ...)"))
    raise UsageError(f"The policy needs a licence: give --licence, such as {usual}.")


def _sent(parcel: Parcel, to: str, key: list[Path] | None) -> Pushed:
    """Send a policy to a folder or a hub repository."""
    from prunepolicy.commands.zoo.view import Pushed
    from prunepolicy.policy.zoo.push import push
    from prunepolicy.policy.zoo.signing import load_keys, public_text

    keys = load_keys(key or ())
    if "://" in to:
        from prunepolicy.policy.zoo.hub_upload import push_to_hub, repository_of

        place = push_to_hub(parcel, repository_of(to), keys)
    else:
        push(parcel, Path(to), keys)
        place = to
    return Pushed(parcel, to, place, tuple(map(public_text, keys)))


@zoo_app.command(cls=HelpCommand)
def remove(name: Id, as_json: AsJson = False) -> None:
    """Delete a downloaded policy.

    [bold]Example[/bold]

    prunepolicy zoo remove llama-graph.v1
    """
    from prunepolicy.policy.zoo.remove import remove

    full_name, freed = remove(name)
    _tell({"name": full_name, "freed": freed}, f"{full_name} is removed, {freed:,} bytes.", as_json)


@zoo_app.command(cls=HelpCommand)
def mirror(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Output folder.", show_default=False)],
    source: SourceOption = None,
    as_json: AsJson = False,
) -> None:
    """Copy a whole zoo into a folder that serves as a source; an interrupted copy continues.

    [bold]Examples[/bold]

    prunepolicy zoo mirror /mnt/usb/zoo

    prunepolicy zoo list --source /mnt/usb/zoo
    """
    from prunepolicy.policy.zoo.mirror import mirror
    from prunepolicy.policy.zoo.zoo_handle import Zoo

    zoo = Zoo.open(source)
    new, count = mirror(zoo, folder), len(zoo.index.policies)
    _tell(
        {"folder": str(folder), "source": zoo.source.spelling, "policies": count, "new": new},
        f"{folder} holds the {count} policies of {zoo.source.spelling}; {new} are new.",
        as_json,
    )


@zoo_app.command(cls=HelpCommand)
def sign(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of the zoo.", show_default=False)],
    key: SigningKeys = None,
    expires: Annotated[
        datetime | None,
        typer.Option("--expires", formats=["%Y-%m-%d"], help="Last day on which the index is valid."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Sign a zoo's index with other keys, after verifying every policy.

    [bold]Example[/bold]

    prunepolicy zoo sign ./zoo --key old.pem --key new.pem
    """
    from prunepolicy.policy.zoo.push import sign_again
    from prunepolicy.policy.zoo.signing import key_name, load_keys, public_text

    keys = load_keys(key or ())
    names = [key_name(public_text(loaded)) for loaded in keys]
    policies = list(sign_again(folder, keys, expires.date() if expires else None).policies)
    said = f"Signed with {', '.join(names)}: {', '.join(policies) or 'an empty index'}."
    _tell({"folder": str(folder), "keys": names, "policies": policies}, said, as_json)


@zoo_app.command(cls=HelpCommand)
def key(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="File for the private key, in PEM.", show_default=False)
    ],
    as_json: AsJson = False,
) -> None:
    """Generate an Ed25519 key pair and print the public key.

    [bold]Example[/bold]

    prunepolicy zoo key ~/zoo.pem
    """
    from prunepolicy.policy.zoo.signing import key_name, make_key

    public = make_key(file)
    name = key_name(public)
    said = f"{file} is the private key; keep it secret. The public key, named {name}:\n{public}"
    _tell({"file": str(file), "public_key": public, "name": name}, said, as_json)


def _tell(data: dict[str, Any], sentence: str, as_json: bool) -> None:
    import json

    if as_json:
        print(json.dumps(data, indent=1))
    else:
        console_for().print(sentence, soft_wrap=True)
