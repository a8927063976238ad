"""`make zoo`: 24 architectures in plain PyTorch over the whole road, from the module to the smallest proven file.

The models, by kind: ``tables_and_series``, ``image_classifiers``, ``image_attention``, ``images_to_images``,
``detectors``, ``encoders``, ``decoders``, ``audio``, ``sets``; ``attention`` is what several share. ``architectures``
lists them with the inputs as a user describes them, ``road`` takes one along the commands and judges what each made,
``report`` counts.
"""
