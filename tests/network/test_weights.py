"""Weights from files: all of them or none, and the words for every file that is not it."""

import collections
import copy
import hashlib
import json
import os
import pickle
import tracemalloc
import warnings
import zipfile
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import nn

from respondcam.errors import ModelError, RespondCAMWarning
from respondcam.network.model_files import load_model_file
from respondcam.network.weights import load_weights, named_classes, state_sha256


def network(seed: int = 0, classes: int = 3) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv3d(1, 2, 3), nn.BatchNorm3d(2), nn.Flatten(), nn.Linear(2, classes))


def same(a: nn.Module, b: nn.Module) -> bool:
    other = b.state_dict()
    return all(torch.equal(value, other[name]) for name, value in a.state_dict().items())


@pytest.fixture
def trained() -> nn.Module:
    return network(seed=1)


@pytest.mark.parametrize("legacy", [False, True])
def test_state_dicts_of_both_formats(tmp_path, trained, legacy):
    path = tmp_path / "weights.pth"
    torch.save(trained.state_dict(), path, _use_new_zipfile_serialization=not legacy)
    model = network()
    loaded = load_weights(model, path)
    assert same(model, trained)
    assert loaded.note == ""
    assert loaded.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("name", ["weights.safetensors", "weights.bin"])
def test_safetensors_by_content_not_by_name(tmp_path, trained, name):
    safetensors.torch.save_file(trained.state_dict(), tmp_path / name)
    model = network()
    load_weights(model, tmp_path / name)
    assert same(model, trained)


@pytest.mark.parametrize("nest", ["state_dict", "model_state_dict", "model", "network_weights"])
@pytest.mark.parametrize("prefix", ["", "module.", "model.", "net.", "_orig_mod.module."])
def test_checkpoints_of_frameworks(tmp_path, trained, nest, prefix):
    state = {prefix + name: value for name, value in trained.state_dict().items()}
    torch.save({"epoch": 3, nest: state, "optimizer_states": [{}]}, tmp_path / "last.ckpt")
    model = network()
    loaded = load_weights(model, tmp_path / "last.ckpt")
    assert same(model, trained)
    assert loaded.nest == nest
    assert loaded.prefix == prefix
    assert repr(nest) in loaded.note
    assert (repr(prefix) in loaded.note) == bool(prefix)


@pytest.mark.parametrize("prefix", ["student.", "net.backbone."])
def test_the_network_as_a_part_of_a_larger_module(tmp_path, trained, prefix):
    state = {prefix + name: value for name, value in trained.state_dict().items()}
    others = {"loss.weight": torch.ones(3), "metric.count": torch.ones(1)}
    torch.save({"state_dict": state | others}, tmp_path / "last.ckpt")
    model = network()
    loaded = load_weights(model, tmp_path / "last.ckpt")
    assert same(model, trained)
    assert loaded.prefix == prefix
    assert loaded.left_out == ("loss.weight", "metric.count")
    assert loaded.note.endswith("2 others left out (loss.weight, metric.count)")


def test_the_network_twice_in_a_larger_module(tmp_path, trained):
    def copies(*prefixes: str) -> dict[str, torch.Tensor]:
        each = enumerate(prefixes)
        own = trained.state_dict().items()
        return {p + name: value + n for n, p in each for name, value in own}

    torch.save(copies("student.", "teacher."), tmp_path / "two.pt")
    model = network()
    before = copy.deepcopy(model)
    with pytest.raises(ModelError, match=r"more than once, under 'student\.', 'teacher\.'"):
        load_weights(model, tmp_path / "two.pt")
    assert same(model, before)
    torch.save(copies("model.", "average."), tmp_path / "usual.pt")  # as Lightning names it
    assert load_weights(model, tmp_path / "usual.pt").prefix == "model."
    assert same(model, trained)
    torch.save({"other.0.weight": torch.ones(2, 1, 3, 3, 3)}, tmp_path / "part.pt")
    with pytest.raises(ModelError, match="do not fit the model: missing in the file"):
        load_weights(model, tmp_path / "part.pt")


def test_a_whole_network_under_an_entry_with_trust(tmp_path, trained):
    torch.save({"epoch": 3, "model": trained}, tmp_path / "last.pt")
    model = network()
    assert load_weights(model, tmp_path / "last.pt", trust=True).nest == "model"
    assert same(model, trained)


def test_a_prefix_that_belongs_to_the_names_stays(tmp_path):
    inner = nn.Linear(2, 1)
    model = nn.ModuleDict({"model": inner})
    torch.save(
        {"module.model.weight": torch.ones(1, 2), "module.model.bias": torch.ones(1)},
        tmp_path / "w.pt",
    )
    loaded = load_weights(model, tmp_path / "w.pt")
    assert loaded.prefix == "module."
    assert inner.weight.tolist() == [[1.0, 1.0]]


def test_tied_weights_that_safetensors_keeps_once(tmp_path):
    def tied(seed: int) -> nn.Module:
        torch.manual_seed(seed)
        model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
        model[1].weight = model[0].weight
        return model

    source, model = tied(1), tied(2)
    safetensors.torch.save_model(source, str(tmp_path / "tied.safetensors"))
    load_weights(model, tmp_path / "tied.safetensors")
    assert same(model, source)


def test_torch_s_own_rules_for_old_names_hold(tmp_path):
    """A checkpoint from before BatchNorm counted its batches still fits, as torch defines it."""
    state = dict(network(seed=1).state_dict())
    del state["1.num_batches_tracked"]
    torch.save(state, tmp_path / "old.pt")
    load_weights(network(), tmp_path / "old.pt")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: s.pop("3.bias"), ["missing in the file (1): 3.bias"]),
        (lambda s: s.update(extra=torch.ones(1)), ["not in the model (1): extra"]),
        (
            lambda s: s.update({"3.weight": torch.ones(7, 2)}),
            ["3.weight is (7, 2) in the file and (3, 2) in the model"],
        ),
        (
            lambda s: s.update({f"decoder.{i}": torch.ones(1) for i in range(40)}),
            ["not in the model (40): decoder.0", "and 35 more"],
        ),
    ],
)
def test_weights_that_do_not_fit_are_listed_and_nothing_changes(tmp_path, trained, change, words):
    state = dict(trained.state_dict())
    change(state)
    torch.save(state, tmp_path / "w.pt")
    model = network()
    with pytest.raises(ModelError) as caught:
        load_weights(model, tmp_path / "w.pt")
    message = str(caught.value)
    assert all(word in message for word in words), message
    assert "do not fit" in message
    assert len(message) < 700
    assert same(model, network())


class Bomb:
    """Writes a file when it is unpickled: proof of what a pickle can do."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("protocol", [2, 4])
def test_a_pickle_is_refused_before_it_runs_anything(tmp_path, protocol):
    mark = tmp_path / "it-ran"
    if protocol == 2:
        torch.save({"state_dict": {"w": torch.ones(1)}, "x": Bomb(mark)}, tmp_path / "bomb.pt")
    else:
        (tmp_path / "bomb.pt").write_bytes(pickle.dumps({"x": Bomb(mark)}, protocol=protocol))
    with pytest.raises(ModelError, match=r"could run any code.*--trust"):
        load_weights(network(), tmp_path / "bomb.pt")
    assert not mark.exists()


@pytest.mark.parametrize("how", ["whole model", "optimiser's objects", "plain pickle"])
def test_with_trust_it_opens(tmp_path, trained, how):
    path = tmp_path / "w.pt"
    if how == "whole model":
        torch.save(trained, path)
    elif how == "plain pickle":
        path.write_bytes(pickle.dumps(trained.state_dict(), protocol=5))
    else:
        torch.save({"state_dict": trained.state_dict(), "x": collections.deque([1])}, path)
    model = network()
    with pytest.raises(ModelError, match="--trust"):
        load_weights(model, path)
    load_weights(model, path, trust=True)
    assert same(model, trained)


def written(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def cut(path: Path, legacy: bool, part: float) -> None:
    torch.save({"w": torch.ones(500)}, path, _use_new_zipfile_serialization=not legacy)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * part)])


def other_archive(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("hello.txt", "hello")


def cut_safetensors(path: Path) -> None:
    safetensors.torch.save_file({"w": torch.ones(500)}, path)
    path.write_bytes(path.read_bytes()[:100])


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda p: None, ["does not exist"]),
        (Path.mkdir, ["is a folder"]),
        (lambda p: p.symlink_to(p.name), ["is a link that leads back to itself"]),
        (lambda p: written(p, b""), ["is empty"]),
        (lambda p: written(p, b"hello, not weights" * 10), ["no checkpoint", "safetensors"]),
        (lambda p: written(p, b"\x80asdfjkasdfkjashdfkj"), ["cannot be read"]),
        (lambda p: cut(p, False, 0.5), ["cut short"]),
        (lambda p: cut(p, True, 0.5), ["cut short"]),
        (lambda p: cut(p, True, 0.03), ["cut short"]),
        (cut_safetensors, ["damaged or cut short"]),
        (other_archive, ["archive of another kind"]),
        (lambda p: torch.save(torch.ones(2), p), ["object of type Tensor"]),
        (lambda p: torch.save({"epoch": 1, "loss": 2}, p), ["the entries epoch, loss"]),
        (lambda p: torch.save({}, p), ["holds no weights"]),
    ],
)
@pytest.mark.parametrize("trust", [False, True])
def test_files_that_are_no_weights(tmp_path, make, words, trust):
    make(tmp_path / "w.pt")
    with pytest.raises(ModelError) as caught:
        load_weights(network(), tmp_path / "w.pt", trust=trust)
    message = str(caught.value)
    assert all(word in message for word in [*words, "w.pt"]), message
    assert "\n" not in message


def test_a_safetensors_header_that_lies_about_its_length_allocates_nothing(tmp_path):
    header = json.dumps({"w": {"dtype": "F32", "shape": [10**12], "data_offsets": [0, 4 * 10**12]}})
    content = len(header).to_bytes(8, "little") + header.encode()
    (tmp_path / "w.safetensors").write_bytes(content)
    with pytest.raises(ModelError, match="damaged or cut short"):
        load_weights(network(), tmp_path / "w.safetensors")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_torchscript_is_named_for_what_it_is(tmp_path):
    torch.jit.save(torch.jit.script(nn.Linear(2, 1)), str(tmp_path / "script.pt"))
    with pytest.raises(ModelError, match="TorchScript program, not weights"):
        load_weights(nn.Linear(2, 1), tmp_path / "script.pt")


def test_the_digest_sees_values_names_types_and_shapes():
    base = state_sha256(network())
    assert base == state_sha256(network())
    assert base != state_sha256(network(seed=1))
    assert base != state_sha256(network().half())
    assert base != state_sha256(nn.Sequential(network()))
    assert len(base) == 64


def test_archives_with_a_damaged_end(tmp_path):
    """Python's zipfile raises over some of them where it is asked whether they are archives."""
    path = tmp_path / "a.pt"
    torch.save({"weight": torch.ones(1, 1), "bias": torch.ones(1)}, path)
    data = bytearray(path.read_bytes())
    locator = data.rfind(b"PK\x06\x07")
    data[locator + 16] = 9  # so many disks
    path.write_bytes(data)
    with pytest.raises(ModelError, match="its archive has no end that can be read"):
        load_weights(nn.Linear(1, 1), path)
    with pytest.raises(ModelError, match="damaged"):
        load_model_file(path)


def test_a_pickle_with_an_archive_behind_takes_no_memory_for_lengths_it_claims(tmp_path):
    """It is an archive to zipfile and none to torch, which would read it as a file."""
    torch.save({"weight": torch.ones(1, 1)}, tmp_path / "a.pt")
    pickled = b"\x80\x02X" + (1 << 31).to_bytes(4, "little") + b"text"  # a text of 2 GiB
    path = tmp_path / "b.pth"
    path.write_bytes(pickled + (tmp_path / "a.pt").read_bytes())
    tracemalloc.start()
    try:
        with pytest.raises(ModelError, match=r"b\.pth"):
            load_weights(nn.Linear(1, 1), path)
        with pytest.raises(ModelError, match=r"b\.pth"):
            load_model_file(path)
        assert tracemalloc.get_traced_memory()[1] < 1 << 26
    finally:
        tracemalloc.stop()


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.safetensors")
    assert named_classes(tmp_path / "a.safetensors") == ()
    with pytest.raises(ModelError, match="no regular file"):
        load_weights(network(), tmp_path / "a.safetensors")
    os.mkfifo(tmp_path / "a.pt")
    with pytest.raises(ModelError, match="no regular file"):
        load_model_file(tmp_path / "a.pt")


@pytest.mark.parametrize(
    "classes", ["5", "null", '"abc"', '{"a": 1}', "[1, 2]", "[" * 10_000, '["\\ud800"]', "9" * 5000]
)
def test_only_a_list_of_names_names_the_classes(tmp_path, classes):
    path = tmp_path / "a.safetensors"
    safetensors.torch.save_file({"weight": torch.ones(1)}, path, metadata={"classes": classes})
    with pytest.warns(RespondCAMWarning, match=r"'classes' of a\.safetensors is no list of names"):
        assert named_classes(path) == ()


def test_keys_that_are_no_names_are_refused(tmp_path):
    torch.save({5: torch.ones(1), **network().state_dict()}, tmp_path / "a.pt")
    with pytest.raises(ModelError, match=r"under keys that are no names: 5\."):
        load_weights(network(), tmp_path / "a.pt")


def test_a_tensor_without_a_shape_is_refused(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # nested tensors are a prototype
        odd = torch.nested.nested_tensor([torch.ones(2), torch.ones(3)])
    torch.save({**network().state_dict(), "0.bias": odd}, tmp_path / "a.pt")
    with pytest.raises(ModelError, match=r"0\.bias is a nested tensor in the file"):
        load_weights(network(), tmp_path / "a.pt")


@pytest.mark.parametrize(
    ("odd", "kind"),
    [
        (torch.ones(2, dtype=torch.complex64), "complex"),  # PyTorch drops the imaginary part
        (torch.ones(2).to_sparse(), "sparse"),
    ],
)
def test_tensors_of_other_kinds_are_named(tmp_path, odd, kind):
    before = {name: value.clone() for name, value in network().state_dict().items()}
    model = network()
    model.load_state_dict(before)
    torch.save({**before, "0.bias": odd}, tmp_path / "a.pt")
    with pytest.raises(ModelError, match=rf"0\.bias is a {kind} tensor in the file"):
        load_weights(model, tmp_path / "a.pt")
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_user_that_does_not_exist(tmp_path, monkeypatch):
    with pytest.raises(ModelError, match=r"'~no-such-user/a\.pt' does not exist"):
        load_weights(network(), "~no-such-user/a.pt")
    monkeypatch.chdir(tmp_path)
    torch.save(network().state_dict(), "~no-such-user.pt")  # the file's own name
    load_weights(network(), "~no-such-user.pt")


def test_names_that_are_too_long_for_a_message_are_cut(tmp_path):
    long = "k" * 1_000_000
    states = [
        {long: torch.ones(1)},
        {f"{long}.{name}": value for name, value in network().state_dict().items()},
        {**network().state_dict(), (long, 1): torch.ones(1)},
        {long: 1},
        {f"{end}{long}.{name}": torch.ones(1) for name in network().state_dict() for end in "ab"},
    ]
    said = []
    for state in states:
        torch.save(state, tmp_path / "a.pt")
        try:
            said.append(load_weights(network(), tmp_path / "a.pt").note)
        except ModelError as error:
            said.append(str(error))
    assert [("kkk... (" in one or "more than once" in one) for one in said] == [True] * len(said)
    assert max(map(len, said)) < 1500


def test_objects_that_stand_in_several_places_are_read(tmp_path):
    """As tied weights and the settings of optimisers do."""
    shared = ({"betas": (0.9, 0.999)}, torch.ones(1, 1))
    state = {"state_dict": {"weight": shared[1], "bias": torch.ones(1)}, "uses": [shared] * 1000}
    torch.save(state, tmp_path / "a.pt")
    load_weights(nn.Linear(1, 1), tmp_path / "a.pt")
