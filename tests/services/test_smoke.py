async def test_on_demand_ingestion_serves_a_signed_archive(services, put_release) -> None:
    data = put_release()
    await services.reader.refresh()
    record = await services.ingestion.ensure("go1.99.1.linux-amd64.tar.gz")
    assert record.state == "verified"
    assert record.toolchain.version == "v0.0.1-go1.99.1.linux-amd64"
    blob = await services.store.open(record.file.sha256, len(data))
    assert bytes(await blob.read(0, len(data))) == data
    blob.close()
