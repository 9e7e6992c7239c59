"""Models of the brain from more fMRI than one machine holds, with Spark and Keras.

``import sparkneuro`` loads neither TensorFlow nor pyspark: each stage imports what it needs when it runs.
"""

__version__ = "0.1.0"
