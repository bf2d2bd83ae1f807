"""Search on the real index: only what is visible, only one's own, and both kinds of score."""

import pytest

from shared.errors import Conflict
from shared.model.space import EmbeddingSpace
from shared.ports.stores import SearchRequest
from tests.plugins.road import Road


async def search(road: Road, text: str, organization: str = "acme", **options: object) -> list:
    """Ask as the api does."""
    made = await road.embedder.embed([text], purpose="query")
    return await road.index.search(
        SearchRequest(
            text=text,
            vector=made.vectors[0],
            space=road.embedder.space,
            organization_id=organization,
            **options,
        )
    )


async def index(road: Road, **files: str) -> None:
    """Put files on the road and work them off."""
    for name, text in files.items():
        road.bucket.put(f"{name}.txt", text.encode())
        await road.notify(f"{name}.txt")
    await road.work_off()


async def test_the_exact_passage_comes_first_with_its_place(road: Road) -> None:
    """A passage that is asked for word by word is the best hit, with file, generation, locator and scores."""
    await index(road, pumps="the pump was repaired\nthe gate is open", fish="fish ladder flow")
    hits = await search(road, "the gate is open")
    best = hits[0]
    assert (best.text, best.ref.name, best.locator.page) == ("the gate is open", "pumps.txt", 2)
    assert best.generation == road.bucket.objects["pumps.txt"][0].generation
    assert best.vector_score > 0.999
    assert best.text_score > 0
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)


async def test_words_find_what_vectors_do_not(road: Road) -> None:
    """A rare word brings its passage into the answer even when its vector is far away."""
    await index(road, **{f"file{n}": "\n".join(f"line {n} {m}" for m in range(10)) for n in range(8)})
    await index(road, rare="the zirconium valve")
    hits = await search(road, "zirconium", limit=50)
    assert [hit.ref.name for hit in hits if hit.text_score > 0] == ["rare.txt"]


async def test_many_words_in_common_count_more_than_one_word_repeated(road: Road) -> None:
    """Of two passages of the same length, the one with more of the question's words has the higher score by words."""
    await index(road, many="valve pressure gauge stone", repeated="valve valve valve valve")
    scores = {hit.ref.name: hit.text_score for hit in await search(road, "valve pressure gauge")}
    assert scores["many.txt"] > scores["repeated.txt"]


async def test_deleted_superseded_and_foreign_texts_are_not_found(road: Road) -> None:
    """Search sees the live version of the caller's own files and nothing else."""
    await index(road, gone="alpha gone", changed="alpha old", kept="alpha kept")
    road.bucket.put("foreign.txt", b"alpha foreign", organization_id="others")
    await road.notify("foreign.txt")
    road.bucket.remove("gone.txt")
    await road.notify("gone.txt", "OBJECT_DELETE")
    await index(road, changed="alpha new")
    assert {hit.text for hit in await search(road, "alpha")} == {"alpha kept", "alpha new"}
    assert {hit.text for hit in await search(road, "alpha", "others")} == {"alpha foreign"}
    assert await search(road, "alpha", "nobody") == []


async def test_filters_narrow_the_answer(road: Road) -> None:
    """A prefix and media types are applied before the best are chosen."""
    await index(road, a1="alpha", a2="alpha two", b1="alpha three")
    assert {hit.ref.name for hit in await search(road, "alpha", name_prefix="a")} == {"a1.txt", "a2.txt"}
    assert await search(road, "alpha", media_types=["application/pdf"]) == []
    assert len(await search(road, "alpha", media_types=["text/plain"], limit=2)) == 2


async def test_spaces_are_never_mixed(road: Road) -> None:
    """A question's vector of a space that is not the searched one is refused, not compared with what it cannot be."""
    await index(road, a="alpha")
    other = EmbeddingSpace(model="other", dimensions=8)
    request = SearchRequest(text="alpha", vector=[0.1] * 8, space=other, organization_id="acme")
    with pytest.raises(Conflict, match="SPACE_SWITCHED"):
        await road.index.search(request)


async def test_questions_made_of_syntax_are_just_words(road: Road) -> None:
    """Operators, quotes and markup in a question change nothing but what is found."""
    await index(road, a="alpha beta")
    for text in ("' or 1=1 --", "alpha & | ! ( :* <->", "\\", "''", "alpha:*", "%s {space_id} $1", "日本語 🜚"):
        for hit in await search(road, text):
            assert hit.text == "alpha beta"
