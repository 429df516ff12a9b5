"""What a prompt does, changed: the numbers of the same computation written by hand, in the model and in the circuit."""

from base64 import b64decode
from dataclasses import replace
from functools import partial

import pytest
import torch

from sparse_circuits.circuits.margin import answer_margins
from sparse_circuits.circuits.subgraph import Subgraph, subgraph_taps
from sparse_circuits.errors import UserError
from sparse_circuits.model import Link, Node, record
from sparse_circuits.model.taps import chain
from sparse_circuits.report.server.change import LARGEST, Change, Intervention, find_node
from sparse_circuits.report.server.live import N_LIKELY, Place, run_prompt
from sparse_circuits.report.server.pair import show_pair
from sparse_circuits.report.server.session import NO_MODEL, load_circuits, open_session
from sparse_circuits.tasks import TASKS, Split
from sparse_circuits.tasks.encode import collate, draw_pairs
from sparse_circuits.training.export import Trained

PROMPT = "x = 'a"
NODE = Node("1.attn.v", 2)
OUTSIDE = Node("0.mlp.post_act", 3)
EDGE = ("0.mlp.act_in[5]", "0.mlp.post_act[7]")
THROUGH_HEADS = ("1.attn.v[2]", "1.attn.resid_delta[9]")


def probabilities(model, place, taps):
    """The next tokens of the prompt, all of them, and the odds of the first answer."""
    tokens = torch.tensor([place.tokenizer.encode(PROMPT)])
    return model(tokens, taps=taps)[0, -1].softmax(-1)


def odds(place, taps):
    return answer_margins(place.model, place.circuit.question(PROMPT), taps=taps).double().sigmoid()[0].item()


def check_likely(found, expected, place):
    top = expected.topk(N_LIKELY)
    assert [each.token for each in found] == [place.tokenizer.token(each) for each in top.indices.tolist()]
    assert [each.probability for each in found] == top.values.tolist()


def by_hand(node, change):
    def tap(value):
        value = value.clone()
        value[..., node.channel] = change(value[..., node.channel])
        return value

    return {node.site: tap}


def changes(place, node):
    mean = place.means.sites[node.site][node.channel]
    return {
        Intervention(str(node), Change.ablate): by_hand(node, lambda value: mean.expand_as(value)),
        Intervention(str(node), Change.scale, -2.5): by_hand(node, lambda value: value * -2.5),
        Intervention(str(node), Change.set, 3.0): by_hand(node, lambda value: torch.full_like(value, 3.0)),
    }


def test_unchanged_they_are_the_model_and_the_circuit(place):
    found = run_prompt(place, PROMPT)
    check_likely(found.model, probabilities(place.model, place, {}), place)
    check_likely(found.circuit, probabilities(place.model, place, place.circuit.taps()), place)
    assert found.answers.circuit == list(place.circuit.run(PROMPT))
    assert found.answers.model == [odds(place, {}), 1 - odds(place, {})]
    assert "".join(found.tokens) == PROMPT


@pytest.mark.parametrize("node", [NODE, Node("0.mlp.act_in", 2), Node("final_resid", 9)], ids=str)
def test_each_change_is_that_tap(place, node):
    plain = run_prompt(place, PROMPT)
    for intervention, taps in changes(place, node).items():
        found = run_prompt(place, PROMPT, interventions=[intervention])
        check_likely(found.model, probabilities(place.model, place, taps), place)
        in_circuit = chain(taps, place.circuit.taps())
        check_likely(found.circuit, probabilities(place.model, place, in_circuit), place)
        margin = answer_margins(place.model, place.circuit.question(PROMPT), taps=in_circuit)
        assert found.answers.circuit[0] == place.circuit.calibration(margin).double().sigmoid()[0].item()
        assert found.answers.model[0] == odds(place, taps)
        assert found.model != plain.model and found.circuit != plain.circuit


def test_an_ablated_node_is_one_that_the_circuit_lacks(place):
    circuit = place.circuit
    without = Subgraph(circuit.nodes, circuit.edges).without(NODE)
    expected = probabilities(place.model, place, subgraph_taps(place.model, without, place.means))
    found = run_prompt(place, PROMPT, interventions=[Intervention(str(NODE), Change.ablate)])
    assert [each.probability for each in found.circuit] == pytest.approx(expected.topk(N_LIKELY).values.tolist(), rel=1e-5)


@pytest.mark.parametrize("edge", [EDGE, THROUGH_HEADS], ids=" -> ".join)
def test_a_cut_edge_is_one_that_the_circuit_lacks(place, edge):
    found = run_prompt(place, PROMPT, cuts=[edge])
    kept = [each for each in place.circuit.edges if str(each) != " -> ".join(edge)]
    assert len(kept) == len(place.circuit.edges) - 1
    fewer = replace(place.circuit, edges=kept)
    check_likely(found.circuit, probabilities(place.model, place, fewer.taps()), place)
    assert found.answers.circuit == list(fewer.run(PROMPT))
    assert found.circuit != run_prompt(place, PROMPT).circuit


def test_a_cut_in_the_whole_model_by_hand(place):
    source, target = map(Node.parse, EDGE)
    weight = place.model.link_weight(Link(source.site, target.site))[target.channel, source.channel]
    tokens = torch.tensor([place.tokenizer.encode(PROMPT)])
    value = record(place.model, tokens, source.site)[source.site][..., source.channel]
    lost = weight * (value - place.means.sites[source.site][source.channel])
    taps = by_hand(Node(f"{target.site}.pre", target.channel), lambda before: before - lost)
    expected = probabilities(place.model, place, taps)
    found = run_prompt(place, PROMPT, cuts=[EDGE])
    assert [each.probability for each in found.model] == pytest.approx(expected.topk(N_LIKELY).values.tolist(), rel=1e-5)
    assert found.model != run_prompt(place, PROMPT).model


def test_what_is_cut_from_a_changed_node_sees_its_mean(place):
    out_of = [(str(edge.source), str(edge.target)) for edge in place.circuit.edges if edge.source == NODE]
    ablated = run_prompt(place, PROMPT, interventions=[Intervention(str(NODE), Change.ablate)])
    cut = run_prompt(place, PROMPT, interventions=[Intervention(str(NODE), Change.set, 5.0)], cuts=out_of)
    assert [each.probability for each in cut.circuit] == pytest.approx([each.probability for each in ablated.circuit], rel=1e-4)


def test_several_changes_of_one_node_follow_one_another(place):
    set_, scale = Intervention(str(NODE), Change.set, 2.0), Intervention(str(NODE), Change.scale, 3.0)
    assert run_prompt(place, PROMPT, interventions=[set_, scale]) == run_prompt(
        place, PROMPT, interventions=[Intervention(str(NODE), Change.set, 6.0)]
    )


def test_outside_the_circuit_nodes_move_the_model_alone(place):
    plain, found = (
        run_prompt(place, PROMPT, interventions=each) for each in ([], [Intervention(str(OUTSIDE), Change.set, 9.0)])
    )
    assert found.circuit == plain.circuit and found.activations == plain.activations
    assert found.model != plain.model


def test_activations_are_those_of_the_circuit_as_changed(place):
    found = run_prompt(place, PROMPT, interventions=[Intervention(str(NODE), Change.set, 4.0)])
    assert found.activations[str(NODE)] == [4.0] * len(found.tokens)
    assert len(found.activations) == place.circuit.card.n_nodes
    tokens = torch.tensor([place.tokenizer.encode(PROMPT)])
    before = record(place.model, tokens, "0.mlp.post_act", taps=place.circuit.taps())["0.mlp.post_act"]
    assert found.activations["0.mlp.post_act[7]"] == before[0, :, 7].tolist()


def test_answers_are_asked_where_they_are_not_the_tasks_and_absent_where_a_prompt_has_none(place):
    found = run_prompt(place, PROMPT, answers=('"', "'"))
    assert found.answers.circuit == list(place.circuit.run(PROMPT, answers=('"', "'")))
    several = replace(place, circuit=replace(place.circuit, task=replace(place.circuit.task, answers=None)))
    none = run_prompt(several, PROMPT)
    assert none.answers is None and "differ from pair to pair" in none.why_answers
    assert run_prompt(several, PROMPT, answers=('"', "'")).answers == found.answers


def test_the_model_alone(place):
    found = run_prompt(replace(place, circuit=None), PROMPT, interventions=[Intervention(str(NODE), Change.ablate)])
    assert found.model == run_prompt(place, PROMPT, interventions=[Intervention(str(NODE), Change.ablate)]).model
    assert found.circuit is found.answers is found.activations is None
    assert "choose a circuit" in found.why_answers


open_alone = partial(open_session, trained=None, steering=None, why_no_steering="no bridge")


def test_from_its_file_alone_a_circuit_answers_among_what_it_can_score(place, tmp_path):
    place.circuit.save(tmp_path / "circuits" / "quote.safetensors")
    session = open_session(
        load_circuits(tmp_path, [place.circuit.task.name]).values(), None, steering=None, why_no_steering="no bridge"
    )
    (alone,) = session.circuits
    assert session.model is None and alone.model is None
    found, whole = run_prompt(alone, PROMPT), run_prompt(place, PROMPT)
    assert found.model is None and found.answers.model is None
    assert found.answers.circuit == whole.answers.circuit and found.activations == whole.activations
    assert {each.token for each in found.circuit} == {'"', "'"}
    every = dict(zip(range(257), probabilities(place.model, place, place.circuit.taps()).tolist(), strict=True))
    total = sum(every[each] for each in place.circuit.task.answer_ids)
    for each in found.circuit:
        assert each.probability == pytest.approx(every[place.tokenizer.encode(each.token)[0]] / total, rel=1e-5)
    assert session.describe()["circuits"][0]["why"] == NO_MODEL
    with pytest.raises(UserError, match="checkpoint="):
        session.place(None)


def test_a_circuit_joins_the_model_that_has_its_hash_and_no_other(place, tmp_path, tokenizer):
    place.circuit.save(tmp_path / "circuits" / "quote.safetensors")
    opened = partial(open_session, steering=None, why_no_steering="no bridge")
    loaded = load_circuits(tmp_path, [place.circuit.task.name]).values()
    session = opened(loaded, Trained(place.model, tokenizer))
    assert session.circuits[0].model is session.circuits[0].circuit.model is session.model.model is place.model
    assert run_prompt(session.circuits[0], PROMPT) == run_prompt(place, PROMPT)
    assert session.describe()["circuits"] == [
        {"model": True, "why": None, "answers": ('")\n', "')\n"), "n_pairs": 8, "n_ctx": 256}
    ]
    place.model.unembed.weight[0, 0] += 1
    other = opened(loaded, Trained(place.model, tokenizer))
    assert other.circuits[0].model is None and other.model.means is None
    with pytest.raises(UserError, match="extract a circuit, or set the node"):
        run_prompt(other.model, PROMPT, interventions=[Intervention(str(NODE), Change.ablate)])


def test_a_file_that_holds_its_whole_model_needs_no_other(place, tmp_path):
    everything = replace(place.circuit, task=replace(place.circuit.task, answer_ids=None))
    everything.save(tmp_path / "circuits" / "quote.safetensors")
    session = open_session(
        load_circuits(tmp_path, [everything.task.name]).values(), None, steering=None, why_no_steering="no bridge"
    )
    assert run_prompt(session.circuits[0], PROMPT) == run_prompt(place, PROMPT)


def test_circuits_stand_in_the_pages_order(make_circuit, tmp_path):
    for name, task in (("a", "one"), ("b", "two"), ("c", "one")):
        make_circuit(task, summary=name).save(tmp_path / "circuits" / f"{name}.safetensors")
    loaded = load_circuits(tmp_path, ["two", "one", "one"])
    assert [(path.stem, circuit.task.summary) for path, circuit in loaded.items()] == [("b", "b"), ("a", "a"), ("c", "c")]


def test_any_held_out_pair_with_what_model_and_circuit_make_of_it(place):
    spec = place.circuit.task
    pairs = draw_pairs(TASKS[spec.name], place.tokenizer, split=Split.held_out, n_pairs=8, seed=spec.seed, max_tokens=256)
    found = show_pair(place, 5)
    assert found.prompts == [place.tokenizer.decode(prompt) for prompt in pairs.encoded[5][:2]]
    batch = collate([pairs.encoded[5]], place.tokenizer, scoring=spec.scoring)
    positive, negative = place.circuit.margins(batch).double().sigmoid().tolist()
    assert found.probabilities.circuit == [positive, 1 - negative]
    positive, negative = answer_margins(place.model, batch).double().sigmoid().tolist()
    assert found.probabilities.model == [positive, 1 - negative]
    for side, prompt in enumerate(found.prompts):
        alone = run_prompt(place, prompt)
        assert found.tokens[side] == alone.tokens and len(found.answers[side]) == 1
        for node, values in alone.activations.items():
            assert found.activations[node][side] == pytest.approx(values, abs=1e-5)
        embedded = place.model.embed(torch.tensor(pairs.encoded[5][side]))
        assert found.activations["embed[2]"][side] == embedded[:, 2].tolist()
    (attention,) = found.attention
    n_tokens = len(pairs.encoded[5].positive)
    shares = b64decode(attention["shares"])
    assert (attention["layer"], attention["head"]) == (1, 0)
    assert len(shares) == n_tokens * (n_tokens + 3)  # of both prompts, for each query its keys and the sink
    assert sum(shares[:2]) == pytest.approx(255, abs=1)  # the first token looks at itself or at the sink
    assert show_pair(replace(place, model=None), 5).probabilities.model is None


def test_before_every_pass_it_is_asked_whether_to_go_on(place):
    class Stop(Exception):
        pass

    def stop_after(n_passes):
        def proceed():
            calls.append(None)
            if len(calls) > n_passes:
                raise Stop

        return proceed

    for n_passes in range(4):
        calls = []
        with pytest.raises(Stop):
            run_prompt(place, PROMPT, proceed=stop_after(n_passes))
    calls = []
    run_prompt(place, PROMPT, proceed=stop_after(4))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"prompt": ""}, "0 tokens, and the model reads 1 to 256"),
        ({"prompt": "a" * 257}, "257 tokens"),
        ({"interventions": [Intervention("1.attn.q", Change.ablate)]}, "is no node: write"),
        ({"interventions": [Intervention("1.attn.w[3]", Change.ablate)]}, 'at "1.attn.w" .did you mean "1.attn.'),
        ({"interventions": [Intervention("embed[3]", Change.ablate)]}, 'No nodes are at "embed"'),
        ({"interventions": [Intervention("1.attn.q[16]", Change.ablate)]}, "has 16 channels"),
        ({"cuts": [("0.mlp.act_in[5]", "0.mlp.post_act[8]")]}, "is no edge of this circuit"),
        ({"cuts": [("embed[5]", "0.mlp.act_in[5]")]}, "is no edge of this circuit"),
    ],
)
def test_mistakes_are_one_sentence(place, arguments, says):
    with pytest.raises(UserError, match=says) as error:
        run_prompt(place, **{"prompt": PROMPT, **arguments})
    assert "\n" not in str(error.value)


def test_impossible_changes_and_pairs(place, make_circuit):
    for kind, value in ((Change.ablate, 1.0), (Change.scale, None), (Change.set, 2 * LARGEST), (Change.set, float("nan"))):
        with pytest.raises(UserError, match="take"):
            Intervention(str(NODE), kind, value)
    with pytest.raises(UserError, match="choose one before cutting"):
        run_prompt(replace(place, circuit=None), PROMPT, cuts=[EDGE])
    for index in (-1, 8):
        with pytest.raises(UserError, match="held-out pairs 0 to 7"):
            show_pair(place, index)
    own = make_circuit("a_task_of_the_user")
    with pytest.raises(UserError, match="type a prompt instead"):
        show_pair(Place(own.tokenizer, own.means, None, own), 0)
    assert find_node("1.attn.q[15]", place.model.config) == Node("1.attn.q", 15)
