"""The commands of ``ddpm-ref``: each a function whose signature and docstring are its command line.

What a command needs beyond NumPy is imported when it runs.
"""

from ddpm_ref.commands.analyze import analyze
from ddpm_ref.commands.classifier import train_classifier
from ddpm_ref.commands.demo import demo
from ddpm_ref.commands.derive import derive
from ddpm_ref.commands.errata import errata
from ddpm_ref.commands.evaluate import evaluate
from ddpm_ref.commands.laws import laws, show
from ddpm_ref.commands.study import study
from ddpm_ref.commands.table import table
from ddpm_ref.commands.training import report, sample, train
from ddpm_ref.commands.verify import verify

COMMANDS = {
    "verify": verify,
    "laws": laws,
    "show": show,
    "derive": derive,
    "errata": errata,
    "table": table,
    "study": study,
    "train": train,
    "train-classifier": train_classifier,
    "analyze": analyze,
    "evaluate": evaluate,
    "sample": sample,
    "report": report,
    "demo": demo,
}
