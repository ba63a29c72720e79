"What a Keras user writes: image_dataset_from_directory, augmentation layers, MobileNetV2. Prints images a second."
import json
import os
import sys
import time

os.environ['TF_CPP_MIN_LOG_LEVEL'] = '3'
import keras
from keras import layers

folder, size, batches, mode = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
images = keras.utils.image_dataset_from_directory(folder, image_size=(size, size), batch_size=32, pad_to_aspect_ratio=True, verbose=False)
augment = keras.Sequential([layers.RandomFlip('horizontal'), layers.RandomRotation(15 / 360), layers.RandomZoom(.15), layers.RandomContrast(.2)])
images = images.map(lambda x, y: (augment(x, training=True), y)).prefetch(1)

if mode == 'load':
    for _ in range(2):
        start, n = time.perf_counter(), 0
        for x, _ in images.take(batches): n += len(x)
    print(json.dumps(dict(images_per_second=round(n / (time.perf_counter() - start), 2))))
else:
    class Clock(keras.callbacks.Callback):
        times, end = [], None
        def on_train_batch_end(self, batch, logs=None):
            now = time.perf_counter()
            if self.end: self.times.append(now - self.end)
            self.end = now

    body = keras.applications.MobileNetV2((size, size, 3), include_top=False, weights=None, pooling='avg')
    net = keras.Sequential([layers.Rescaling(1 / 127.5, offset=-1), body, layers.Dropout(.2), layers.Dense(1, activation='sigmoid')])
    net.compile('adam', 'binary_crossentropy')
    net.fit(images.take(batches + 2), epochs=1, verbose=0, callbacks=[Clock()])
    times = sorted(Clock.times[1:])
    print(json.dumps(dict(images_per_second=round(32 / times[len(times) // 2], 2), keras=keras.__version__)))
