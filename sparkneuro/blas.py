"""The linear algebra library that numpy runs on: which, with which kernel, how fast.

numpy and threadpoolctl are imported when a function is called, after the environment was prepared.
"""

import time

AVX512 = frozenset({"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"})
AVX512_KERNELS = frozenset({"SkylakeX", "Cooperlake", "SapphireRapids"})


def describe_blas():
    """Name numpy's BLAS.

    Returns
    -------
    library : str
        Name, version and threads.
    kernel : str
        The set of kernels that it picked for this processor, e.g. ``SkylakeX``; ``unknown`` where it does not tell.
    """
    import numpy  # noqa: F401  (loads its BLAS)
    import threadpoolctl

    pools = [pool for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "blas"]
    # Where scipy is loaded too it brings an OpenBLAS of its own: numpy's has numpy in its path.
    pool = next((pool for pool in pools if "numpy" in pool["filepath"]), pools[0] if pools else None)
    if pool is None:
        return "unknown to threadpoolctl", "unknown"
    return f"{pool['internal_api']} {pool['version']}, {pool['num_threads']} threads", pool.get("architecture") or "unknown"


def faster_kernel(kernel, flags, forced):
    """Say how to get a faster kernel, where the processor has AVX-512 and an OpenBLAS kernel without it runs.

    Parameters
    ----------
    kernel : str
        Kernel that runs, e.g. ``Haswell``.
    flags : frozenset of str
        Instruction sets of the processor, as in ``/proc/cpuinfo``.
    forced : str or None
        Value of ``OPENBLAS_CORETYPE``.

    Returns
    -------
    remedy : str
        What to do; empty when nothing is lost.

    Examples
    --------
    >>> faster_kernel("Haswell", AVX512, "Haswell")
    'unset OPENBLAS_CORETYPE: it keeps this AVX-512 processor at the kernel Haswell'
    >>> faster_kernel("SkylakeX", AVX512, None)
    ''
    """
    if kernel == "unknown" or kernel in AVX512_KERNELS or not flags >= AVX512:
        return ""
    if forced:
        return f"unset OPENBLAS_CORETYPE: it keeps this AVX-512 processor at the kernel {forced}"
    return "export OPENBLAS_CORETYPE=SkylakeX: the processor has AVX-512, which OpenBLAS did not recognise"


def measure_gemm(dtype, size=1536, seconds=0.6):
    """Rate of a square matrix product.

    Parameters
    ----------
    dtype : str
        ``float32`` or ``float64``.
    size : int
        Rows and columns of the matrices.
    seconds : float
        For how long to repeat it, in s.

    Returns
    -------
    rate : float
        Best of the repetitions, in GFLOP/s.
    """
    import numpy

    a = numpy.random.default_rng(0).standard_normal((size, size)).astype(dtype)
    product = a @ a
    best, end = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < end:
        start = time.perf_counter()
        numpy.matmul(a, a, out=product)
        best = min(best, time.perf_counter() - start)
    return 2 * size**3 / best / 1e9
