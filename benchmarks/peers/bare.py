"""Keras alone, in a loop. Records nothing."""

import time

import keras

from benchmarks.peers.work import Images, build, configurations, fit, tell, workload

images = Images()
accuracies = [fit(build(configuration), configuration, images) for configuration in configurations()]
tell(time.time(), accuracies, workload().epochs * len(accuracies), {"keras": keras.__version__})
