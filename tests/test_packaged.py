from gptviz.packaged import packaged_runs


def test_every_packaged_run_is_a_run_directory():
    for name, folder in packaged_runs().items():
        assert folder.name == name
        assert (folder / "run.json").is_file()
