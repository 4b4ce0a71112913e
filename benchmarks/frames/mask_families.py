"""Hugging Face's families that classify masks, as small random networks.

Two things are set on real images, so that labels mean something: the embedding of the pixels, each
channel of which gets mean 0 and standard deviation 1 over pixels, that of the queries, likewise
over queries, scaled so that mask logits deviate by `SHARPNESS`; and the classifier, scaled so that
each query prefers a class of its own. Masks of trained networks are smooth, those of random ones
noise; so what enlarges features last only enlarges and smooths them. EoMT's masked attention, which
ends with its training, is ended.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from PIL import Image

from frames.families import CLASSES, Family, Pair

SHARPNESS = 5.0
"""Standard deviation of mask logits over pixels: most masks are sure of most pixels."""
_LEANING = 6.0
"""Standard deviation of class logits over queries."""
_APART = 100.0
"""Standard deviation of the queries' embeddings: with that of an untrained network all queries
attend to everything, and say the same. Mask2Former's are contents as well as places, and its
attention ends where masks of the layer before do: far apart, rounding decides."""
_APART_MASK2FORMER = 10.0
_QUERIES = 20
_SWIN = {
    "image_size": 256, "embed_dim": 32, "depths": [1, 1, 1, 1], "num_heads": [1, 2, 4, 8],
    "window_size": 4, "out_features": ["stage1", "stage2", "stage3", "stage4"],
}  # fmt: skip
_VIT: dict[str, Any] = {
    "hidden_size": 64, "num_hidden_layers": 4, "num_attention_heads": 4, "patch_size": 16,
    "num_blocks": 2, "num_queries": _QUERIES, "num_upscale_blocks": 2, "num_labels": CLASSES,
}  # fmt: skip


def settle(model: Any, given: dict[str, Any], apart: float = _APART) -> None:
    """Set the embeddings and the classifier of a network on images."""
    import torch

    _smooth(model)
    pixels, queries, classifier = _parts(model)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, torch.nn.Embedding) and module.num_embeddings == _QUERIES:
                module.weight.normal_(0.0, apart)
        embedded = _given_by(model, pixels, given)
        _standardise(pixels, embedded.transpose(0, 1).flatten(1))
        _standardise(queries, _given_by(model, queries, given).flatten(0, -2).T)
        masks = model(**given).masks_queries_logits
        factor = SHARPNESS / masks.std(dim=(-2, -1)).mean()
        queries.weight *= factor
        queries.bias *= factor
        found = model(**given).class_queries_logits
        _standardise(classifier, found.flatten(0, 1).T / _LEANING)


def _smooth(model: Any) -> None:
    """Make what enlarges features last do that alone, and smooth them."""
    import torch

    if hasattr(model, "upscale_block"):
        model.attn_mask_probs.zero_()
        for block in model.upscale_block.block:
            block.conv1.weight.data[:] = block.conv1.weight.mean(dim=(2, 3), keepdim=True)
            block.conv2.weight.data[:] = 1.0 / 9.0
        return
    decoder = model.model.pixel_level_module.decoder
    if hasattr(decoder, "fpn"):
        last = decoder.fpn.layers[-1]
        lateral, finest = last.proj[0], last.block.layers[0]
    else:
        lateral, finest = decoder.adapter_1[0], decoder.layer_1[0]
    lateral.weight.data.zero_()
    finest.weight.data[:] = torch.eye(len(finest.weight))[..., None, None] / 9.0


def _parts(model: Any) -> tuple[Any, Any, Any]:
    """What makes the pixels' embedding, the last layer of the queries', and the classifier."""
    import torch

    name = model.config.model_type
    if name.startswith("eomt"):
        return model.upscale_block.block[-1].layernorm2d, model.mask_head.fc3, model.class_predictor
    pixels = model.model.pixel_level_module.decoder.mask_projection
    head = {
        "mask2former": lambda: model.model.transformer_module.decoder.mask_predictor.mask_embedder,
        "maskformer": lambda: model.mask_embedder,
        "oneformer": lambda: model.model.transformer_module.decoder.mask_embed,
    }[name]()
    queries = [m for m in head.modules() if isinstance(m, torch.nn.Linear)][-1]
    if name == "oneformer":
        return pixels, queries, model.model.transformer_module.decoder.class_embed
    return pixels, queries, model.class_predictor


def _given_by(model: Any, layer: Any, given: dict[str, Any]) -> Any:
    """What a layer gives on images."""
    seen = []
    hook = layer.register_forward_hook(lambda _layer, _inputs, output: seen.append(output))
    model(**given)
    hook.remove()
    return seen[-1]


def _standardise(layer: Any, channels: Any) -> None:
    """Change a layer's weight and bias so that these values of its channels had mean 0, std 1."""
    mean, deviation = channels.mean(dim=1), channels.std(dim=1).clamp(min=1e-6)
    layer.weight /= deviation.reshape(-1, *[1] * (layer.weight.dim() - 1))
    layer.bias.copy_((layer.bias - mean) / deviation)


def _mask2former() -> Pair:
    import transformers as hf

    config = hf.Mask2FormerConfig(
        backbone_config=hf.SwinConfig(**_SWIN), feature_size=64, mask_feature_size=64,
        hidden_dim=64, encoder_feedforward_dim=128, dim_feedforward=128, encoder_layers=2,
        decoder_layers=4, num_attention_heads=4, num_queries=_QUERIES, num_labels=CLASSES,
    )  # fmt: skip
    processor = hf.Mask2FormerImageProcessor(size={"height": 256, "width": 320})
    return hf.Mask2FormerForUniversalSegmentation(config), processor


def _maskformer() -> Pair:
    import transformers as hf

    decoder = hf.DetrConfig(
        d_model=64, encoder_layers=1, decoder_layers=2, encoder_ffn_dim=128, decoder_ffn_dim=128,
        encoder_attention_heads=4, decoder_attention_heads=4, num_queries=_QUERIES,
    )  # fmt: skip
    config = hf.MaskFormerConfig(
        backbone_config=hf.SwinConfig(**_SWIN), fpn_feature_size=64, mask_feature_size=64,
        decoder_config=decoder, num_labels=CLASSES,
    )  # fmt: skip
    processor = hf.MaskFormerImageProcessor(size={"height": 256, "width": 320})
    return hf.MaskFormerForInstanceSegmentation(config), processor


class _Tasked:
    """OneFormer's image processor with its text, as ``OneFormerProcessor`` has it.

    The tokenizer knows letters only: a vocabulary would be downloaded.
    """

    def __init__(self, processor: Any) -> None:
        import transformers as hf

        self._processor, self.image_std = processor, processor.image_std
        letters = "abcdefghijklmnopqrstuvwxyz"
        words = ["<|startoftext|>", "<|endoftext|>", *letters, *(f"{one}</w>" for one in letters)]
        vocabulary = {word: number for number, word in enumerate(words)}
        self._tokenizer = hf.CLIPTokenizer(vocab=vocabulary, merges=[])
        self.post_process_semantic_segmentation = processor.post_process_semantic_segmentation

    def __call__(self, images: Image.Image, **asked: Any) -> dict[str, Any]:
        given = self._processor(images=images, task_inputs=["semantic"], **asked)
        tokens = self._tokenizer(
            given["task_inputs"], padding="max_length", max_length=77, **asked
        )["input_ids"]  # fmt: skip
        return {"pixel_values": given["pixel_values"], "task_inputs": tokens}

    def save_pretrained(self, folder: Path) -> None:
        self._processor.save_pretrained(folder)
        self._tokenizer.save_pretrained(folder)


def _oneformer() -> Pair:
    import transformers as hf

    config = hf.OneFormerConfig(
        backbone_config=hf.SwinConfig(**_SWIN), num_queries=_QUERIES, hidden_dim=64, mask_dim=64,
        conv_dim=64, encoder_feedforward_dim=128, dim_feedforward=128, encoder_layers=2,
        decoder_layers=4, num_attention_heads=4, num_labels=CLASSES, text_encoder_width=64,
        text_encoder_num_layers=1, text_encoder_vocab_size=54, text_encoder_proj_layers=1,
    )  # fmt: skip
    processor = hf.OneFormerImageProcessor(size={"height": 256, "width": 320})
    return hf.OneFormerForUniversalSegmentation(config), _Tasked(processor)


def _eomt() -> Any:
    import transformers as hf

    return hf.EomtForUniversalSegmentation(hf.EomtConfig(**_VIT, image_size=256))


def _eomt_dinov3() -> Any:
    import transformers as hf

    config = hf.EomtDinov3Config(**_VIT, image_size=256, intermediate_size=128)
    return hf.EomtDinov3ForUniversalSegmentation(config)


def _padded() -> Any:
    """EoMT's processor as panoptic checkpoints have it."""
    import transformers as hf

    return hf.EomtImageProcessor(size={"shortest_edge": 256, "longest_edge": 256}, do_pad=True)


def _split() -> Any:
    """EoMT's processor as semantic checkpoints have it."""
    import transformers as hf

    size = {"shortest_edge": 256, "longest_edge": None}
    return hf.EomtImageProcessor(size=size, do_pad=True, do_split_image=True)


MASKS: dict[str, Family] = {
    "Mask2Former": Family(
        _mask2former, lambda model, given: settle(model, given, _APART_MASK2FORMER)
    ),
    "MaskFormer": Family(_maskformer, settle),
    "OneFormer": Family(_oneformer, settle),
    "EoMT, padded": Family(lambda: (_eomt(), _padded()), settle, crops=True),
    "EoMT, split": Family(
        lambda: (_eomt(), _split()), settle, slides=True, give="`run --slide auto --overlap 0`"
    ),
    "EoMT-DINOv3, padded": Family(lambda: (_eomt_dinov3(), _padded()), settle, crops=True),
}
