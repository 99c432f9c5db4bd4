"""The bundle's models behind typed calls: recognise, condition, expand, describe, embed, classify.

Everything but the sketch decoder, whose steps belong to the engine. These graphs are small and run
a few times a request, on the CPU. Calls are safe from several threads: sessions are, and the rest
is read only.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any  # Any: onnxruntime has no types

import numpy as np

from hitree import raster
from hitree.embedding import TokenVectors
from hitree.errors import BundleCorrupt, BundleIncomplete, MissingPackage
from hitree.segments import stroke_features
from hitree.text import Vocabulary
from hitree_server import decoding
from hitree_server.errand import go_on
from hitree_server.raw import RawModel, RawModels
from hitree_server.subjects import Recognition, SubjectIndex

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from hitree.bundle import Bundle, StepGraph
    from hitree.drawing import Drawing
    from hitree_server.decoding import Decoded, Floats, Ids, State

GRAPHS = (
    "condition",
    "scorer_segments",
    "scorer_texts",
    "scorer_unity",
    "generator_describe",
    "generator_expand",
    "classifier",
)
# Levels of a stack that a network was trained to read: the root, and the last ones below it.
EXPANDED_LEVELS, DRAWN_LEVELS = 4, 3
BEAM = 4  # hypotheses of a description
TOP_K = 20  # tokens that an expansion is sampled from
DESCRIPTION_TOKENS = 24
EXPANSION_TOKENS = 80
SUBJECT_THRESHOLD = 0.64  # where the bundle sets none


@dataclass(frozen=True)
class Expansion:
    """What a node is carried out by, as the generator wrote it."""

    texts: tuple[str, ...]  # child instructions in order; empty: the node is a leaf
    log_prob: float  # per token, at temperature 1
    text_log_probs: tuple[float, ...] = ()  # the same for each of ``texts``


@dataclass(frozen=True)
class Described:
    """An instruction that the generator wrote for a segment."""

    text: str
    log_prob: float  # per token


class Models:
    """All models of a bundle but the sketch decoder."""

    def __init__(
        self,
        sessions: Mapping[str, Any],
        step: StepGraph,
        vocabulary: Vocabulary,
        vectors: TokenVectors,
        subjects: SubjectIndex,
        bundle: Bundle,
    ) -> None:
        self._sessions = sessions
        self._step_graph = step
        self._vocabulary = vocabulary
        self._vectors = vectors
        self._index = subjects
        self.subjects: tuple[str, ...] = bundle.manifest.subjects
        self.settings: Mapping[str, float] = bundle.manifest.settings

    @classmethod
    def load(cls, bundle: Bundle, threads: int) -> Models:
        """Open the bundle's graphs with ``threads`` threads each; 0 lets ONNX Runtime choose.

        Raises:
            BundleIncomplete: a graph or file is missing.
            BundleCorrupt: one cannot be read.
            MissingPackage: onnxruntime is not installed.
        """
        manifest = bundle.manifest
        missing = [name for name in GRAPHS if name not in manifest.graphs]
        if missing:
            raise BundleIncomplete(
                f"the bundle at {bundle.path} lacks the graphs {', '.join(missing)}; "
                "export it again"
            )
        files = {name: manifest.graphs[name] for name in GRAPHS}
        files["generator_step"] = manifest.generator.file
        sessions = {name: _session(bundle, file, threads) for name, file in files.items()}
        _check_classifier(sessions["classifier"], bundle)
        vocabulary = Vocabulary.from_json(_read(bundle, "vocabulary.json"))
        vectors = TokenVectors.load(bundle.path)
        threshold = manifest.settings.get("subject_threshold", SUBJECT_THRESHOLD)
        index = SubjectIndex(manifest.subjects, vectors.sentence, threshold)
        return cls(sessions, manifest.generator, vocabulary, vectors, index, bundle)

    def raw(self, bundle: Bundle, threads: int) -> RawModels:
        """All graphs of ``bundle`` as they are, a session of their own for the decoder's step."""
        file = bundle.manifest.decoder.file
        sessions = {**self._sessions, "decoder_step": _session(bundle, file, threads)}
        models = [RawModel.of(name, session) for name, session in sessions.items()]
        return RawModels(models, bundle.manifest.version)

    # ---- language ---------------------------------------------------------------------------

    def recognise(self, prompt: str, nearest: bool = False) -> Recognition:
        """The subject of a prompt, see `hitree_server.subjects.SubjectIndex.recognise`.

        Raises:
            UnknownSubject: none is near enough; ``details["nearest"]`` lists the nearest.
        """
        return self._index.recognise(prompt, nearest=nearest)

    def embed_texts(self, texts: Sequence[str]) -> Floats:
        """Instructions in the scorer's space: (B, D), unit norm."""
        tokens, mask = self._vectors.batch(list(texts))
        return self._run("scorer_texts", tokens=tokens, mask=mask)

    def conditions(self, stacks: Sequence[tuple[str, ...]], subject: str) -> Floats:
        """What the decoder draws each stack of instructions under: (B, C)."""
        stack, mask = self._stacks(stacks, DRAWN_LEVELS)
        return self._run(
            "condition", stack=stack, stack_mask=mask, subject=self._subject(subject, len(stacks))
        )

    def expand(
        self,
        stacks: Sequence[tuple[str, ...]],
        subject: str,
        *,
        samples: int,
        temperature: float,
        rngs: Sequence[np.random.Generator],
    ) -> list[list[Expansion]]:
        """Sample ``samples`` ways to carry out the node at the end of each of ``stacks``."""
        tokens, mask = self._stacks(stacks, EXPANDED_LEVELS)
        subjects = self._subject(subject, len(stacks))
        context = self._run("generator_expand", stack=tokens, stack_mask=mask, subject=subjects)
        decoded = decoding.sample(
            self._step,
            self._begin(context),
            rngs,
            samples,
            temperature=temperature,
            top_k=TOP_K,
            limit=EXPANSION_TOKENS,
        )
        expansions = [self._expansion(one) for one in decoded]
        return [expansions[at : at + samples] for at in range(0, len(expansions), samples)]

    # ---- drawings ---------------------------------------------------------------------------

    def embed_segments(self, drawing: Drawing, spans: Ids) -> Floats:
        """Segments ``spans`` (S, 2) of a drawing in the scorer's space: (S, D), unit norm."""
        return self._run("scorer_segments", strokes=stroke_features(drawing), spans=spans)

    def unity(self, drawing: Drawing, spans: Ids) -> Floats:
        """The log-odds that each of ``spans`` (S, 2) is one step of its drawing: (S,)."""
        return self._run("scorer_unity", strokes=stroke_features(drawing), spans=spans)

    def describe(
        self, drawing: Drawing, spans: Ids, subject: str, *, n_best: int = 1, width: int = BEAM
    ) -> list[list[Described]]:
        """The ``n_best`` instructions for each of ``spans`` (S, 2), best first.

        ``subject`` may be empty where it is not known; ``width`` hypotheses are kept at a time.
        """
        context = self._run(
            "generator_describe",
            strokes=stroke_features(drawing),
            spans=spans,
            subject=self._subject(subject, len(spans)),
        )
        found = decoding.beam(
            self._step,
            self._begin(context),
            len(spans),
            width=max(width, n_best),
            limit=DESCRIPTION_TOKENS,
        )
        return [
            [Described(self._vocabulary.decode(t.ids), t.per_token) for t in texts[:n_best]]
            for texts in found
        ]

    def classify(self, drawing: Drawing) -> Floats:
        """How probable each of `subjects` is, given the whole drawing: (subjects,), sums to 1."""
        size = self._sessions["classifier"].get_inputs()[0].shape[-1]
        image = raster.render(raster.fitted(drawing.strokes), size)
        logits = self._run("classifier", images=image[None, None])[0]
        odds = np.exp(logits - logits.max())
        probabilities: Floats = odds / odds.sum()
        return probabilities

    # ---- tensors ----------------------------------------------------------------------------

    def _run(self, graph: str, **feed: NDArray[np.float32] | Ids) -> Floats:
        go_on()
        result: list[Floats] = self._sessions[graph].run(None, feed)
        return result[0]

    def _stacks(self, stacks: Sequence[tuple[str, ...]], most: int) -> tuple[Floats, Floats]:
        """Token vectors (B, L, T, E) and their mask (B, L, T), of ``most`` levels at most."""
        cut = [stack[:1] + stack[1:][1 - most :] for stack in stacks]
        tokens, mask = self._vectors.batch([text for stack in cut for text in stack])
        length, width = tokens.shape[1:]
        deepest = max(2, *map(len, cut))  # the graphs need a level below the root
        levels = np.zeros((len(cut), deepest, length, width), np.float32)
        levels_mask = np.zeros((len(cut), deepest, length), np.float32)
        at = 0
        for row, stack in enumerate(cut):
            levels[row, : len(stack)] = tokens[at : at + len(stack)]
            levels_mask[row, : len(stack)] = mask[at : at + len(stack)]
            at += len(stack)
        return levels, levels_mask

    def _subject(self, subject: str, rows: int) -> Floats:
        """The subject's sentence vector for every row (B, E); zeros where it is not known."""
        if not subject:
            return np.zeros((rows, self._vectors.width), np.float32)
        return np.tile(self._vectors.sentence(subject).astype(np.float32), (rows, 1))

    def _begin(self, context: Floats) -> State:
        """The state before the first word; the hidden state starts as the context itself."""
        state: State = {"context": context}
        for tensor in self._step_graph.state:
            one = np.zeros(tensor.shape, np.float32)
            one.reshape(-1)[:] = tensor.initial  # a single value fills all
            state[tensor.name] = np.repeat(one[None], len(context), axis=0)
        state["h"] = context
        return state

    def _step(self, token: Ids, state: State) -> tuple[Floats, State]:
        go_on()
        tensors = self._step_graph.state
        names = ["log_probs", *(tensor.output for tensor in tensors)]
        session = self._sessions["generator_step"]
        log_probs, *after = session.run(names, {"token": token, **state})
        carried = {t.name: value for t, value in zip(tensors, after, strict=True)}
        return log_probs, {"context": state["context"], **carried}

    def _expansion(self, decoded: Decoded) -> Expansion:
        texts, scores = [], []
        pairs = zip(decoded.ids, decoded.log_probs, strict=False)  # EOS has no id
        for special, run in groupby(pairs, key=lambda pair: pair[0] < Vocabulary.FIRST):
            if not special:
                ids, log_probs = zip(*run, strict=True)
                texts.append(self._vocabulary.decode(ids))
                scores.append(sum(log_probs) / len(log_probs))
        return Expansion(tuple(texts), decoded.per_token, tuple(scores))


def _session(bundle: Bundle, file: str, threads: int) -> Any:
    try:
        import onnxruntime as ort  # type: ignore[import-untyped]  # it ships no stubs
    except ImportError as exc:
        raise MissingPackage("the models need onnxruntime; pip install 'hitree[server]'") from exc
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Idle threads must not spin: the engine's session needs the cores.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    model = _read(bundle, file)
    try:
        return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as exc:  # ONNX Runtime has one class a status, and no common base
        raise BundleCorrupt(
            f"{bundle.file(file)} is no graph that ONNX Runtime can run: {exc}; export it again"
        ) from exc


def _check_classifier(session: Any, bundle: Bundle) -> None:
    """Its logits are told apart by their order alone."""
    told, known = session.get_outputs()[0].shape[-1], len(bundle.manifest.subjects)
    if told != known:
        raise BundleCorrupt(
            f"the classifier of {bundle.path} tells {told} subjects, its manifest has {known}; "
            "export it again"
        )


def _read(bundle: Bundle, file: str) -> bytes:
    try:
        return bundle.file(file).read_bytes()
    except OSError as exc:
        raise BundleIncomplete(
            f"the bundle lacks {bundle.file(file)}; copy or export it again"
        ) from exc
