"""``nnx pull``."""

from pathlib import Path

import click

from toolchain.cli import options, types


@click.command("pull")
@click.argument("source", metavar="oci://REGISTRY/REPOSITORY:TAG")
@click.option(
    "-o", "--output", type=types.OUTPUT_FOLDER, metavar="FOLDER",
    help="Where the package goes, NAME.ortpackage.  [default: by the repository's name]",
)  # fmt: skip
@click.option("--trust", type=types.FILE, metavar="KEY.pub", help="The public key that must have signed all of it.")
@click.option("--plain-http", is_flag=True, help="The registry has no TLS, and who listens may listen.")
@options.as_json
def command(source: str, output: Path | None, trust: Path | None, plain_http: bool, as_json: bool) -> None:
    """Fetch the package that a tag, or @sha256:..., names in a registry, look at all of it, and give it its name.

    Every file must be of the size and SHA-256 that the manifest says, have a name that a package may hold, and pass
    what `nnx verify` looks at; with --trust (extra sign) that key must have signed all of it. A package that stood
    there is replaced at once, or not at all. What arrived of a pull that broke off is not fetched again. Given a tag
    and a digest, as in oci://registry.example/team/digits:1.0@sha256:..., it fails when the tag leads elsewhere by now.

    Who one is comes from docker's config.json and its credential helpers, as `docker login` writes them.

    \b
    Example:
      nnx pull oci://registry.example/team/digits:1.0 --trust release.pub
    """
    from toolchain.console import LiveProgress, print_json, print_result
    from toolchain.shipping.registry import pulling
    from toolchain.shipping.registry.address import address

    named = address(source)
    place = output or pulling.folder_for(named)
    pulled = pulling.pull(named, place, trust=trust, plain_http=plain_http, progress=LiveProgress())
    if as_json:
        facts = {
            "source": pulled.source,
            "digest": pulled.digest,
            "package": str(pulled.folder),
            "fetched_bytes": pulled.fetched_bytes,
            "sha256": pulled.verdict.sha256,
            "signed_by": pulled.verdict.signed_by,
        }
        print_json({"schema_version": pulling.SCHEMA_VERSION, **facts})
    else:
        print_result("\n".join(pulling.lines(pulled)))
