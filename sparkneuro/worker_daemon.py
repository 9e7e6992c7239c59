"""The process that forks the Python workers of an executor on this machine, as Spark's own, in a prepared environment.

Spark starts it as ``python -m sparkneuro.worker_daemon``. Only in local modes, where the workers' standard error is the user's
terminal and sparkneuro is certain to be importable; a cluster keeps Spark's own.
"""

from sparkneuro.environment import prepare_environment

if __name__ == "__main__":
    prepare_environment()
    from pyspark.daemon import manager

    manager()
