"""The commands of the zoo: they parse, call one function, and print."""

from __future__ import annotations

import sys
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from prunepolicy.options import AsJson
from prunepolicy.pruning.errors import UsageError
from prunepolicy.running import console_for, error_console, present

if TYPE_CHECKING:
    from prunepolicy.commands.zoo.view import Pushed
    from prunepolicy.policy.zoo.push import Parcel

zoo_app = typer.Typer(
    name="zoo",
    help="Policies that can be downloaded and trusted: signed, hashed, free of code.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)
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
        "--key", help="Private key in PEM; twice for two signatures.", envvar="PRUNEPOLICY_ZOO_SIGNING_KEY"
    ),
]


@zoo_app.command("list")
def list_(source: SourceOption = None, as_json: AsJson = False) -> None:
    """List the policies of a zoo.

    [bold]Examples[/bold]

    prunepolicy zoo list

    prunepolicy zoo list --source https://example.org/zoo
    """
    from prunepolicy.commands.zoo.view import Listed
    from prunepolicy.policy.zoo.opened import Zoo

    present(Listed.of(Zoo.open(source)), as_json)


@zoo_app.command()
def show(name: Id, source: SourceOption = None, as_json: AsJson = False) -> None:
    """Show what is known about a policy: its listing and its card.

    [bold]Example[/bold]

    prunepolicy zoo show llama-graph
    """
    from prunepolicy.agents.learned_pruning.policy_card import parsed_card
    from prunepolicy.commands.zoo.view import Shown
    from prunepolicy.policy.zoo.opened import Zoo
    from prunepolicy.policy.zoo.pull import read_file

    zoo = Zoo.open(source)
    full_name = zoo.find(name)
    card = parsed_card(read_file(zoo, full_name, "card.json"), f"The card of {full_name}")
    present(Shown(zoo, full_name, card), as_json)


@zoo_app.command()
def pull(name: Id, source: SourceOption = None, as_json: AsJson = False) -> None:
    """Bring a policy here, verified; from then on it needs no network.

    [bold]Examples[/bold]

    prunepolicy zoo pull llama-graph.v1

    prunepolicy zoo pull llama-graph.v1 --source hf://someone/zoo@v3
    """
    from prunepolicy.policy.zoo.opened import Zoo
    from prunepolicy.policy.zoo.pull import pull

    zoo = Zoo.open(source)
    full_name = zoo.find(name)
    folder, size = pull(zoo, full_name), zoo.index.policies[full_name].size
    _tell(
        {"name": full_name, "source": zoo.source.spelling, "folder": str(folder), "bytes": size},
        f"{full_name}, {size:,} bytes, is at {folder}.",
        as_json,
    )


@zoo_app.command()
def verify(
    name: OptionalId = None,
    rescore: Annotated[
        bool, typer.Option("--rescore", help="Measure the card's cheapest number again, too.")
    ] = False,
    source: SourceOption = None,
    as_json: AsJson = False,
) -> None:
    """Check again what is here: signature, sizes, hashes, schema; exit code 1 when anything is wrong.

    [bold]Examples[/bold]

    prunepolicy zoo verify

    prunepolicy zoo verify llama-graph.v1 --rescore
    """
    from prunepolicy.agents.learned_pruning.policy_card import parsed_card
    from prunepolicy.commands.zoo.rescore import rescore as measure
    from prunepolicy.commands.zoo.view import VerifiedPolicy
    from prunepolicy.policy.load import load_stored
    from prunepolicy.policy.zoo.opened import Zoo
    from prunepolicy.policy.zoo.pull import read_policy
    from prunepolicy.policy.zoo.verify import verify
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


@zoo_app.command()
def push(
    run: Annotated[
        Path, typer.Argument(metavar="RUN", help="A run's folder, or a policy's.", show_default=False)
    ],
    to: Annotated[str, typer.Option("--to", help="A folder or hf://USER/REPO.", show_default=False)],
    name: Annotated[
        str | None, typer.Option("--as", help="NAME.vN or NAME.TAG-vN.", show_default="the policy's own name")
    ] = None,
    key: SigningKeys = None,
    version: Annotated[
        str | None, typer.Option("--version", help="Semantic version; N.0.0 at first.", show_default="N.0.0")
    ] = None,
    licence: Annotated[
        str | None,
        typer.Option(
            "--licence",
            "--license",
            help="Of the policy, as SPDX calls it.",
            show_default="asked on a terminal",
        ),
    ] = None,
    caveat: Annotated[str, typer.Option("--caveat", help="What leads the card.")] = "",
    witness: Annotated[
        str, typer.Option("--witness", help="Score this model, too, for others to measure again.")
    ] = "",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be sent; send nothing.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Put the best policy of a run into a zoo of yours, and sign its index again.

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
        return str(typer.prompt(f"Licence of the policy, as SPDX calls it ({usual}, ...)"))
    raise UsageError(f"Say under which licence others get the policy, with --licence: {usual}, ...")


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


@zoo_app.command()
def remove(name: Id, as_json: AsJson = False) -> None:
    """Delete a policy that was pulled.

    [bold]Example[/bold]

    prunepolicy zoo remove llama-graph.v1
    """
    from prunepolicy.policy.zoo.remove import remove

    full_name, freed = remove(name)
    _tell({"name": full_name, "freed": freed}, f"{full_name} is removed, {freed:,} bytes.", as_json)


@zoo_app.command()
def mirror(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where the copy goes.", show_default=False)],
    source: SourceOption = None,
    as_json: AsJson = False,
) -> None:
    """Copy a whole zoo into a folder, which is a source itself; an interrupted copy continues.

    [bold]Examples[/bold]

    prunepolicy zoo mirror /mnt/usb/zoo

    prunepolicy zoo list --source /mnt/usb/zoo
    """
    from prunepolicy.policy.zoo.mirror import mirror
    from prunepolicy.policy.zoo.opened import Zoo

    zoo = Zoo.open(source)
    new, count = mirror(zoo, folder), len(zoo.index.policies)
    _tell(
        {"folder": str(folder), "source": zoo.source.spelling, "policies": count, "new": new},
        f"{folder} holds the {count} policies of {zoo.source.spelling}; {new} came new.",
        as_json,
    )


@zoo_app.command()
def sign(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder with a zoo.", show_default=False)],
    key: SigningKeys = None,
    expires: Annotated[
        datetime | None,
        typer.Option("--expires", formats=["%Y-%m-%d"], help="Last day on which the index is current."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Sign a zoo's index with other keys; every policy is checked first.

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


@zoo_app.command()
def key(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Where it goes, in PEM.", show_default=False)],
    as_json: AsJson = False,
) -> None:
    """Make a signing key (Ed25519), and print its public half for those who are to trust it.

    [bold]Example[/bold]

    prunepolicy zoo key ~/zoo.pem
    """
    from prunepolicy.policy.zoo.signing import key_name, make_key

    public = make_key(file)
    name = key_name(public)
    said = f"{file} is the private key; keep it to yourself. Its public key, named {name}:\n{public}"
    _tell({"file": str(file), "public_key": public, "name": name}, said, as_json)


def _tell(data: dict[str, Any], sentence: str, as_json: bool) -> None:
    import json

    if as_json:
        print(json.dumps(data, indent=1))
    else:
        console_for().print(sentence, soft_wrap=True)
