"""A Keras model's architecture as text, so that another process can build the same model without unpickling anything."""

import json
from importlib import import_module

from sparkneuro.errors import SettingsError


def describe_model(model):
    """Write down a compiled model's architecture and loss, without its weights.

    Parameters
    ----------
    model : keras.Model
        Built and compiled; classes of the user's own must be registered with Keras, in a module that can be imported where
        the workers run.

    Returns
    -------
    description : str
        JSON, for `build_model`.
    """
    import keras  # here, so that what only lists modules does not load it

    config = keras.saving.serialize_keras_object(model)
    return json.dumps({"modules": custom_modules(config), "config": config})


def build_model(description):
    """Build the model that `describe_model` wrote down, with random weights.

    Parameters
    ----------
    description : str
        JSON.

    Returns
    -------
    model : keras.Model
        Built and compiled.

    Raises
    ------
    SettingsError
        When a module of its classes cannot be imported here.
    """
    import keras

    parts = json.loads(description)
    import_modules(parts["modules"])
    return keras.saving.deserialize_keras_object(parts["config"])


def custom_modules(config):
    """List the modules that register the classes in a Keras configuration.

    Parameters
    ----------
    config : dict or list
        What Keras serialised.

    Returns
    -------
    modules : list of str
        Sorted dotted names; Keras's own are left out.
    """
    found = set()
    if isinstance(config, dict):
        if config.get("registered_name") and config.get("module"):
            found.add(config["module"])
        config = list(config.values())
    if isinstance(config, list):
        found.update(module for part in config for module in custom_modules(part))
    return sorted(found)


def import_modules(modules):
    """Import the modules that register a model's classes: Keras itself finds only what is registered.

    Parameters
    ----------
    modules : sequence of str
        Dotted names.

    Raises
    ------
    SettingsError
        When one cannot be imported.
    """
    for module in modules:
        try:
            import_module(module)
        except ImportError as error:
            raise SettingsError(
                f"the model's classes must be in a module that workers can import; {module} is not ({error});"
                " install it on the workers, or ship it with --py-files."
            ) from error
