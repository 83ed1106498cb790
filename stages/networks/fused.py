"""Keras's Adam and AdamW by TensorFlow's fused kernel: a step passes over each variable once.

Keras implements a step as a dozen operations, each of which reads and writes an array as large as the variable: for the
head of a wide network that takes longer than its gradient. The update is the same up to rounding:
https://www.tensorflow.org/api_docs/python/tf/raw_ops/ResourceApplyAdam.
"""

from typing import Any

import keras
import tensorflow as tf


class _Fused:
    """A mixin that updates Keras's Adam classes by the fused kernel. AMSGrad is not supported."""

    def update_step(self: Any, gradient: tf.Tensor, variable: tf.Variable, learning_rate: tf.Tensor) -> None:
        """Update `variable` and its moments (Kingma and Ba 2015, algorithm 1, with the order of section 2)."""
        kind, index = variable.dtype, self._get_variable_index(variable)
        rate, step, first, second, epsilon = (
            tf.cast(value, kind)
            for value in (learning_rate, self.iterations.value + 1, self.beta_1, self.beta_2, self.epsilon)
        )
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=self._momentums[index].value.handle,
            v=self._velocities[index].value.handle,
            beta1_power=first**step,
            beta2_power=second**step,
            lr=rate,
            beta1=first,
            beta2=second,
            epsilon=epsilon,
            grad=tf.cast(gradient, kind),
        )


class Adam(_Fused, keras.optimizers.Adam):  # type: ignore[misc]
    """Keras's Adam."""


class AdamW(_Fused, keras.optimizers.AdamW):  # type: ignore[misc]
    """Keras's AdamW: weight decay decoupled from the gradient (Loshchilov and Hutter 2019)."""
