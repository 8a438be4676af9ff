"""Tables that grow with the study."""

import json
import pickle

import pandas as pd
import pytest

from sonosynth.study import store as stores
from sonosynth.study.cells import ScoreCell, SyntheticSource, TrainCell, cell_from
from sonosynth.study.results import COLUMNS, F1_CSV, GENERATORS_CSV, TrainResult, read_result, table_rows
from sonosynth.study.store import Store, _csv_text

SOURCE = SyntheticSource('a, "b"\nc', "conditional", 0, 0.5, {"base": "stylegan2", "sizes": [1, 2]})


def train_cells(n: int) -> list[TrainCell]:
    return [TrainCell(size=8, replicate=number, subset="0", generation=SOURCE) for number in range(n)]


def save(store: Store, cell: TrainCell, **more) -> None:
    store.save(cell, TrainResult(**cell.identity(), **{"kimg": 0.1 + cell.replicate / 3} | more))


@pytest.fixture
def store(tmp_path) -> Store:
    store = Store(tmp_path)
    store.save_provenance({"data": {}})
    return store


def test_tables_are_those_of_all_results_at_once_in_the_order_of_the_plan(store):
    cells = train_cells(5)
    for cell in (cells[3], cells[0], cells[4]):
        save(store, cell)
        store.write_tables(cells)
    finished = [read_result(store.result_file(cells[number]))[1] for number in (0, 3, 4)]
    rows = table_rows(finished)[GENERATORS_CSV]
    expected = pd.DataFrame(rows, columns=list(COLUMNS[GENERATORS_CSV]), dtype=object)
    assert (store.directory / GENERATORS_CSV).read_text() == expected.to_csv(index=False, lineterminator="\n")
    assert (store.directory / F1_CSV).read_text() == ",".join(COLUMNS[F1_CSV]) + "\n"


def test_text_is_that_of_pandas():
    rows = [["a, b", 'c "d"', None, 1, 0.1], ["", "e\nf", float("nan"), -3, 1e-9], [True, "ü", 2**70, 1e300, 0.0]]
    expected = pd.DataFrame(rows, dtype=object).to_csv(index=False, header=False, lineterminator="\n")
    assert _csv_text(rows).decode() == expected


def test_a_result_is_read_once_until_it_is_made_anew(store, monkeypatch):
    cells, read = train_cells(3), []
    monkeypatch.setattr(stores, "read_result", lambda path: (read.append(path.name), read_result(path))[1])
    for cell in cells:
        save(store, cell)
        store.write_tables(cells)
    assert len(read) == 3
    store.remove_result(cells[1])
    store.write_tables(cells)
    assert len(pd.read_csv(store.directory / GENERATORS_CSV)) == 2
    save(store, cells[1], kimg=77.0)
    pickle.loads(pickle.dumps(store)).write_tables(cells)
    store.write_tables(cells)
    assert len(read) == 4 + 3 and list(pd.read_csv(store.directory / GENERATORS_CSV)["kimg"])[1] == 77.0


def test_a_cell_comes_back_from_json_with_the_same_hash():
    score = ScoreCell(8, 0, "0", SOURCE, 1.0, "1", ("random-conv",), 20, ("distances", "diversity"))
    for cell in (*train_cells(2), score):
        back = cell_from(json.loads(json.dumps(cell.settings())))
        assert back == cell and back.hash == cell.hash and type(back) is type(cell)
