"""Features and brain targets into ridge regressions.

``from sparkneuro.encoding import RidgeCV`` is the scikit-learn-compatible class; everything else is imported from its own file.
"""


def __getattr__(name):
    # Executors import the mathematics without scikit-learn, so the class that needs it is loaded when it is asked for.
    if name == "RidgeCV":
        from sparkneuro.encoding.ridge_cv import RidgeCV

        return RidgeCV
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
