from sparse_circuits.report.curves import N_POINTS, training_curves


def test_columns_of_training_and_evaluations():
    metrics = [
        {"step": 1, "loss": 3.0, "l0": 10.0, "lr": 0.1, "gradient_rms": 1.0},
        {"step": 2, "loss": 2.0, "l0": 8.0, "lr": 0.2, "gradient_rms": 1.0},
        {"step": 2, "validation_loss": 2.5, "tasks/else_elif/loss": 0.6, "tasks/else_elif/accuracy": 0.9, "tasks/known": 1.0},
        {"step": 4, "validation_loss": 1.5, "tasks/else_elif/loss": 0.1, "tasks/else_elif/accuracy": 1.0, "tasks/known": 1.0},
    ]
    curves = training_curves(metrics)
    assert curves["training"]["step"] == [1, 2]
    assert curves["training"]["lr"] == [0.1, 0.2]
    assert curves["validation"] == {"step": [2, 4], "loss": [2.5, 1.5]}
    assert curves["tasks"] == {"else_elif": [0.6, 0.1]}


def test_a_long_run_keeps_its_ends_and_its_order():
    metrics = [{"step": step, "loss": 1.0, "l0": 1.0, "lr": 1.0} for step in range(0, 50_000, 10)]
    steps = training_curves(metrics)["training"]["step"]
    assert len(steps) == N_POINTS
    assert (steps[0], steps[-1]) == (0, 49_990)
    assert steps == sorted(set(steps))


def test_without_metrics_there_are_no_curves():
    assert training_curves([]) is None
