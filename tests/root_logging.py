"""A configuration for `rq worker -c tests.root_logging`: everything goes through a handler of the root logger."""

DICT_CONFIG = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"named": {"format": "%(name)s: %(message)s"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "named"}},
    "root": {"level": "INFO", "handlers": ["stderr"]},
}
