"""The mistakes that the person in front of the program can mend."""


class UserError(Exception):
    """Something the user can fix: one sentence naming the thing, the rule and the value.

    The command line prints the message without a traceback and ends with status 2.
    """


class ConfigError(UserError):
    """A config with mistakes, one line each in the message."""


class DataError(UserError):
    """A corpus, a vocabulary or a data folder that can't be used as it is."""


class ModelError(UserError):
    """A model folder, a run folder or a checkpoint that can't be used as it is."""


class LostProcessError(Exception):
    """Another process of the run is gone or late: a sentence that names it.

    The command line prints it without a traceback and ends with status 1.
    """


class CommonError(UserError):
    """A mistake that all processes of a run have found together: the first one tells it."""
