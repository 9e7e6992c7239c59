"""The command that runs a BIDS-App on one subject: as a local program, or in a container with its folders bound.

Folders have the same path inside a container as outside, so that a log names files that exist, and absolute links hold.
"""

import hashlib
import os
from dataclasses import dataclass

from sparkneuro.errors import SettingsError

FMRIPREP = "fmriprep"

# Where a container finds the templates when they are given.
TEMPLATES = "/templateflow"

# Words that are made of our own settings; a second one, by the app's words, would undo what we watch over.
_OURS = dict.fromkeys(("--participant-label", "--participant_label"), "--participant-label")
_OURS_OF_FMRIPREP = {
    **_OURS,
    **dict.fromkeys(("-w", "--work-dir"), "--work-dir"),
    **dict.fromkeys(("--nprocs", "--nthreads", "--n_cpus", "--n-cpus", "--omp-nthreads"), "--cores"),
    **dict.fromkeys(("--mem", "--mem_mb", "--mem-mb"), "--memory-gb"),
    **{name: name for name in ("--output-spaces", "--bids-filter-file", "--fs-license-file")},
}


@dataclass(frozen=True)
class BidsApp:
    """An app, how it is run, and on what.

    Parameters
    ----------
    family : str
        ``"fmriprep"``, whose options are known, or ``"bids-app"``, which is given what every BIDS-App takes.
    runtime : str
        ``"docker"``, ``"apptainer"``, ``"singularity"``, or "" for a program of this machine.
    program : tuple of str
        Image of a container (one word), or the words that start the program.
    bids_dir, output, work_dir : str
        Absolute paths; `work_dir` holds one folder a subject.
    cores : int
        Cores of a subject.
    memory_gb : float or None
        Memory of a subject (GiB).
    output_spaces : tuple of str
        Spaces of the output; the app's default when empty.
    bids_filter_file, fs_license_file, templateflow_home : str
        Absolute paths; "" where there is none.
    app_words : tuple of str
        Further words for the app; ``{subject}`` and ``{work}`` are filled in.
    container_words : tuple of str
        Further words for the container's runtime.
    binds : tuple of str
        Further folders that a container sees, read-only.
    """

    family: str
    runtime: str
    program: tuple
    bids_dir: str
    output: str
    work_dir: str
    cores: int = 1
    memory_gb: float | None = None
    output_spaces: tuple = ()
    bids_filter_file: str = ""
    fs_license_file: str = ""
    templateflow_home: str = ""
    app_words: tuple = ()
    container_words: tuple = ()
    binds: tuple = ()

    def work_folder(self, subject):
        """Tell where a subject's intermediate files are.

        Parameters
        ----------
        subject : str
            Label.

        Returns
        -------
        folder : str
            Absolute path.
        """
        return os.path.join(self.work_dir, f"sub-{subject}")


def make_command(app, subject):
    """Build the command for one subject.

    Parameters
    ----------
    app : BidsApp
        The app.
    subject : str
        Label.

    Returns
    -------
    words : list of str
        The command; `shlex.join` writes it for a shell.

    Examples
    --------
    >>> import shlex
    >>> app = BidsApp("bids-app", "", ("mriqc",), "/data/my study", "/out", "/work", app_words=("-w", "{work}"))
    >>> shlex.join(make_command(app, "01"))
    "mriqc '/data/my study' /out participant --participant_label 01 -w /work/sub-01"
    """
    return [*_start(app, subject), app.bids_dir, app.output, "participant", *_app_words(app, subject)]


def make_kill_command(app, subject):
    """Build the command that ends and removes a subject's container.

    Parameters
    ----------
    app : BidsApp
        The app.
    subject : str
        Label.

    Returns
    -------
    words : list of str
        Empty where the app's processes are our own descendants: only Docker runs them elsewhere.
    """
    return ["docker", "rm", "--force", container_name(app, subject)] if app.runtime == "docker" else []


def make_version_command(app):
    """Build the command that tells the app's version.

    Parameters
    ----------
    app : BidsApp
        The app.

    Returns
    -------
    words : list of str
        The command.
    """
    start = {"docker": ["docker", "run", "--rm"], "": []}.get(app.runtime, [app.runtime, "run", "--cleanenv"])
    return [*start, *app.program, "--version"]


def container_name(app, subject):
    """Name a subject's container: the same name each time, so that two of them cannot run at once.

    Parameters
    ----------
    app : BidsApp
        The app.
    subject : str
        Label.

    Returns
    -------
    name : str
        Unique to the output folder and the subject.
    """
    return f"sparkneuro-{hashlib.sha256(app.output.encode()).hexdigest()[:8]}-sub-{subject}"


def list_mounts(app, subject):
    """List the folders and files that a container sees.

    Parameters
    ----------
    app : BidsApp
        The app.
    subject : str
        Label.

    Returns
    -------
    mounts : list of (str, str, bool)
        Path outside, path inside, and whether it is read-only. Folders stand before those within them.
    """
    same = [app.bids_dir, *app.binds, app.bids_filter_file, app.fs_license_file]
    mounts = [(path, path, True) for path in dict.fromkeys(same) if path]
    mounts += [(path, path, False) for path in (app.output, app.work_folder(subject))]
    if app.templateflow_home:
        mounts.append((app.templateflow_home, TEMPLATES, False))  # a template that is missing is fetched
    return sorted(mounts, key=lambda mount: mount[1].count("/"))


def check_words(app):
    """Refuse words for the app that are made of our own settings, and paths that a container's runtime cannot bind.

    Parameters
    ----------
    app : BidsApp
        The app.

    Raises
    ------
    SettingsError
        With the setting to use instead.
    """
    ours = _OURS_OF_FMRIPREP if app.family == FMRIPREP else _OURS
    for word in app.app_words:
        name = word.partition("=")[0]
        if name in ours:
            raise SettingsError(f"{name} among the words for the app: give it to sparkneuro itself, by {ours[name]}.")
    forbidden = {"docker": ",", "": ""}.get(app.runtime, ":,")
    for source, _, _ in list_mounts(app, "") if app.runtime else ():
        if set(source) & set(forbidden):
            raise SettingsError(
                f"{source}: {app.runtime} cannot bind a path with {' or '.join(forbidden)} in it; rename it, or link to it."
            )


def describe_app(app):
    """Write down all that the results follow from, apart from the inputs and the version.

    Parameters
    ----------
    app : BidsApp
        The app.

    Returns
    -------
    settings : dict
        Fit for JSON. Cores, memory, places of folders and the container's runtime are no part of it: with others of them the
        results are the same.
    """
    program = list(app.program) if not app.runtime else []
    return {
        "family": app.family, "program": program, "output_spaces": list(app.output_spaces), "app_words": list(app.app_words),
        "bids_filter": hash_small_file(app.bids_filter_file),
    }


def hash_small_file(path):
    """Hash a small file.

    Parameters
    ----------
    path : str
        Plain path; "" for none.

    Returns
    -------
    sha256 : str
        Hexadecimal; "" for none.
    """
    if not path:
        return ""
    with open(path, "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()


def _start(app, subject):
    """The words before the app's own: nothing but the program, or a container with all that it sees."""
    if not app.runtime:
        templates = ["env", f"TEMPLATEFLOW_HOME={app.templateflow_home}"] if app.templateflow_home else []
        return [*templates, *app.program]
    mounts, environment = list_mounts(app, subject), ["PYTHONUNBUFFERED=1"]
    if app.templateflow_home:
        environment.append(f"TEMPLATEFLOW_HOME={TEMPLATES}")
    if app.runtime == "docker":
        return [*_docker(app, subject, mounts, environment), *app.container_words, *app.program]
    binds = [f"{source}:{target}{':ro' if fixed else ''}" for source, target, fixed in mounts]
    words = [app.runtime, "run", "--cleanenv", *(word for bind in binds for word in ("--bind", bind))]
    words += [word for variable in environment for word in ("--env", variable)]
    return [*words, "--pwd", app.work_folder(subject), *app.container_words, *app.program]


def _docker(app, subject, mounts, environment):
    words = ["docker", "run", "--rm", "--init", "--name", container_name(app, subject)]
    words += ["--user", f"{os.getuid()}:{os.getgid()}", "--cpus", str(app.cores)]
    if app.memory_gb is not None:
        limit = f"{int(app.memory_gb * 1024)}m"
        words += ["--memory", limit, "--memory-swap", limit]
    for source, target, fixed in mounts:
        words += ["--mount", f"type=bind,source={source},target={target}{',readonly' if fixed else ''}"]
    words += [word for variable in environment for word in ("--env", variable)]
    return [*words, "--workdir", app.work_folder(subject)]


def _app_words(app, subject):
    own = [word.replace("{subject}", subject).replace("{work}", app.work_folder(subject)) for word in app.app_words]
    if app.family != FMRIPREP:
        return ["--participant_label", subject, *_named_words(app), *own]
    words = ["--participant-label", subject, "--work-dir", app.work_folder(subject)]
    # fMRIPrep's own rule leaves a core to the rest of the workflow.
    words += ["--nprocs", str(app.cores), "--omp-nthreads", str(max(1, min(app.cores - 1, 8)))]
    if app.memory_gb is not None:
        # It plans by estimates, so it is told less than what it is held to.
        words += ["--mem-mb", str(int(app.memory_gb * 900))]
    return [*words, *_named_words(app), *own]


def _named_words(app):
    words = ["--output-spaces", *app.output_spaces] if app.output_spaces else []
    words += ["--bids-filter-file", app.bids_filter_file] if app.bids_filter_file else []
    return words + (["--fs-license-file", app.fs_license_file] if app.fs_license_file else [])
