"""The errors users meet. Each message says what was expected, what came, and what to do."""


class HfnumbaError(Exception):
    """Base of every error a user can cause or meet; the command line prints it as one sentence and exits 1."""


class UsageError(HfnumbaError, ValueError):
    """An argument or option is wrong; the command line exits 2."""


class DataError(HfnumbaError, ValueError):
    """Rows, labels or features are not what training needs (NaN, unequal lengths, labels out of range)."""


class StoreError(HfnumbaError):
    """A store is missing, unfinished, damaged, or not of the expected schema."""


class ClusterError(HfnumbaError):
    """The cluster could not be reached, lost its workers, or answered with something unusable."""


class StoppedError(HfnumbaError):
    """A signal has arrived while the run waited for its cluster; the last checkpoint remains."""


class CheckpointError(HfnumbaError):
    """A run directory or a checkpoint is missing, damaged, or belongs to other settings."""


class NumericalError(HfnumbaError, ArithmeticError):
    """The loss, the gradient or a product is not finite where it must be."""


def sentence(error: BaseException) -> str:
    """Return the words of an error on one line; some of other libraries have none."""
    text = " ".join(str(error).split())
    if isinstance(error, TimeoutError) and not text:
        return "no answer came in time"
    return text or type(error).__name__
