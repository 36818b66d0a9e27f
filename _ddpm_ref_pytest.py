"""The pytest plugin of ddpm_ref: ``pytest --ddpm-adapter package.module:adapter`` adds one test per law.

It lies outside the package and imports nothing until it is asked, because pytest loads it in every run on a machine
where ddpm_ref is installed.
"""


def pytest_addoption(parser):
    """The options."""
    group = parser.getgroup("ddpm_ref", "hold an implementation of diffusion models against the laws of ddpm_ref")
    group.addoption(
        "--ddpm-adapter",
        action="append",
        default=[],
        metavar="PACKAGE.MODULE:ADAPTER",
        help="add one test per law for this adapter (see ddpm_ref.conformance); may be given several times",
    )
    group.addoption("--ddpm-laws", default="*", metavar="PATTERNS", help='which laws, e.g. "forward/*,posterior/*"')
    group.addoption("--ddpm-max-examples", type=int, default=100, metavar="N", help="cases per law and claim (100)")


def pytest_collection_modifyitems(session, config, items):
    """Add the laws to the tests that were found."""
    paths = config.getoption("ddpm_adapter")
    if paths:
        from ddpm_ref.conformance.pytest_items import law_items

        items.extend(law_items(session, paths, config.getoption("ddpm_laws"), config.getoption("ddpm_max_examples")))
